#include "daemon/base/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_BYTES = 3, TEXT_BYTES = 32 }; /* "0::" is before the path of version 2 */

static bool read_path(const char *membership_file, char *path, int path_bytes) {
    FILE *file = fopen(membership_file, "re");
    bool found = false;
    while (file && !found && fgets(path, path_bytes, file))
        found = strncmp(path, "0::/", PREFIX_BYTES + 1) == 0;
    if (file)
        fclose(file);
    if (found) {
        path[strcspn(path, "\n")] = 0;
        memmove(path, path + PREFIX_BYTES, strlen(path + PREFIX_BYTES) + 1);
    }
    return found;
}

static uint64_t read_limit(const char *mount, const char *group, const char *name) {
    char path[2 * PATH_MAX], text[TEXT_BYTES] = "";
    snprintf(path, sizeof path, "%s%s/%s", mount, group, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT64_MAX;
    bool found = fgets(text, sizeof text, file) && strncmp(text, "max", 3) != 0;
    fclose(file);
    return found ? strtoull(text, NULL, 10) : UINT64_MAX;
}

static uint64_t lesser(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t cgroup_memory_bytes(const char *membership_file, const char *mount) {
    char group[PATH_MAX];
    uint64_t least = UINT64_MAX;
    if (!read_path(membership_file, group, sizeof group))
        return UINT64_MAX;
    for (char *end = group + strlen(group); end; end = strrchr(group, '/')) {
        *end = 0;
        least = lesser(least, read_limit(mount, group, "memory.max"));
        least = lesser(least, read_limit(mount, group, "memory.high"));
    }
    return least;
}
