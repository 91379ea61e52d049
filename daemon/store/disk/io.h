/* What the disk asks of the system: a table that tests replace, and loops over it for whole
 * stretches. */
#ifndef DAEMON_STORE_DISK_IO_H
#define DAEMON_STORE_DISK_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Each as its namesake in the system, errno included; names are relative to the folder. */
struct disk_io {
    int (*open)(int folder, const char *name, int flags, mode_t mode);
    ssize_t (*writev)(int file, const struct iovec *parts, int count, off_t offset);
    ssize_t (*readv)(int file, const struct iovec *parts, int count, off_t offset);
    int (*datasync)(int file);
    int (*sync)(int file);
    int (*truncate)(int file, off_t bytes);
    int (*rename)(int folder, const char *from, const char *to);
    int (*unlink)(int folder, const char *name);
};

extern const struct disk_io disk_io_system;

/* All of the parts, however many calls it takes; they are changed on the way. 0, or -1 with errno;
 * the end of the file before the end of the parts is ENODATA. */
int disk_io_write(const struct disk_io *io, int file, struct iovec *parts, size_t count,
                  uint64_t offset) __attribute__((warn_unused_result));
int disk_io_read(const struct disk_io *io, int file, struct iovec *parts, size_t count,
                 uint64_t offset) __attribute__((warn_unused_result));

#endif
