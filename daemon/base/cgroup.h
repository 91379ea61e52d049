/* What the kernel lets this process and those beside it take together (cgroup v2). */
#ifndef DAEMON_BASE_CGROUP_H
#define DAEMON_BASE_CGROUP_H

#include <stdint.h>

/* The least memory.max and memory.high of the group that membership_file (/proc/self/cgroup) names
 * and of those above it, under mount (/sys/fs/cgroup); UINT64_MAX: there is none. */
uint64_t cgroup_memory_bytes(const char *membership_file, const char *mount);

#endif
