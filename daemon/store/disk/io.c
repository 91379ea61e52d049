#include "daemon/store/disk/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { CALL_PARTS = 1024 /* IOV_MAX */ };

static int system_open(int folder, const char *name, int flags, mode_t mode) {
    return openat(folder, name, flags, mode);
}

static int system_rename(int folder, const char *from, const char *to) {
    return renameat(folder, from, folder, to);
}

static int system_unlink(int folder, const char *name) {
    return unlinkat(folder, name, 0);
}

const struct disk_io disk_io_system = {
    .open = system_open,
    .writev = pwritev,
    .readv = preadv,
    .datasync = fdatasync,
    .sync = fsync,
    .truncate = ftruncate,
    .rename = system_rename,
    .unlink = system_unlink,
};

/* Behind so many bytes of the parts: where there is more, and how much. */
static size_t advance(struct iovec *parts, size_t count, size_t bytes) {
    size_t i = 0;
    while (i < count && bytes >= parts[i].iov_len)
        bytes -= parts[i++].iov_len;
    if (i < count) {
        parts[i].iov_base = (uint8_t *)parts[i].iov_base + bytes;
        parts[i].iov_len -= bytes;
    }
    return i;
}

static int all(ssize_t (*call)(int, const struct iovec *, int, off_t), int file,
               struct iovec *parts, size_t count, uint64_t offset) {
    size_t begin = advance(parts, count, 0);
    while (begin < count) {
        size_t left = count - begin;
        ssize_t bytes =
            call(file, parts + begin, left < CALL_PARTS ? (int)left : CALL_PARTS, (off_t)offset);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes == 0)
            errno = ENODATA;
        if (bytes <= 0)
            return -1;
        offset += (uint64_t)bytes;
        begin += advance(parts + begin, left, (size_t)bytes);
    }
    return 0;
}

int disk_io_write(const struct disk_io *io, int file, struct iovec *parts, size_t count,
                  uint64_t offset) {
    return all(io->writev, file, parts, count, offset);
}

int disk_io_read(const struct disk_io *io, int file, struct iovec *parts, size_t count,
                 uint64_t offset) {
    return all(io->readv, file, parts, count, offset);
}
