/* Preloaded into the daemon, makes the Nth call of some kinds fail, once or from then on, or kills
 * the daemon there.
 *
 * What fails when stands in a file that the test maps too: KVQ_FAULTS in the environment names it,
 * struct control is its content, and faults.py knows its layout. Calls are counted while it is
 * armed. Reads and writes fail on regular files and sockets alone: libuv ends the program if its
 * own eventfds fail, as it may.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    MEMORY,    /* malloc and its like: ENOMEM */
    MAPPING,   /* mmap, memfd_create, madvise: ENOMEM, EMFILE, EAGAIN */
    SPACE,     /* fallocate, ftruncate, unlink: ENOSPC, EIO */
    OPENING,   /* open, socket: EMFILE */
    ACCEPTING, /* accept: EMFILE */
    WRITING,   /* write and its like to a file: ENOSPC, or half of it is written */
    READING,   /* read and its like from a file: EIO, or half of it is read */
    SYNCING,   /* fsync, fdatasync: EIO */
    RENAMING,  /* rename: EIO */
    SENDING,   /* to a socket: EPIPE, or half of it is sent */
    RECEIVING, /* from a socket: ECONNRESET, or half of it is received */
    KINDS,
};

struct control {
    _Atomic uint64_t kinds;  /* armed: a bit a kind */
    _Atomic uint64_t nth;    /* from 1 on */
    _Atomic uint64_t sticky; /* not the nth alone but all from it on */
    _Atomic uint64_t how;    /* below */
    _Atomic uint64_t second; /* so many calls behind the nth one more; 0: none */
    _Atomic uint64_t calls, failed;
};

/* What becomes of a call: it fails; reads and writes do the half; the daemon is killed before it,
 * or after the half of a write. */
enum { FAIL, DO_HALF, KILL, KILL_AFTER_HALF };

static struct control *control;
static _Thread_local bool dies; /* after the write that is under way */

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("KVQ_FAULTS");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, file, 0L);
    syscall(SYS_close, file);
    if (mapped != MAP_FAILED)
        control = mapped;
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

/* What a write came to, if anything comes of it. */
static ssize_t done(ssize_t result) {
    if (dies)
        die();
    return result;
}

static bool is_chosen(uint64_t call) {
    uint64_t nth = atomic_load(&control->nth), second = atomic_load(&control->second);
    return call == nth || (second > 0 && call == nth + second) ||
           (call > nth && atomic_load(&control->sticky));
}

/* Counts a call, and says whether it is to fail. */
static bool fails(enum kind kind) {
    if (!control || !(atomic_load(&control->kinds) >> kind & 1))
        return false;
    if (!is_chosen(atomic_fetch_add(&control->calls, 1) + 1))
        return false;
    atomic_fetch_add(&control->failed, 1);
    if (atomic_load(&control->how) == KILL)
        die();
    return true;
}

static bool fails_with(enum kind kind, int error) {
    if (!fails(kind))
        return false;
    errno = error;
    return true;
}

/* --- memory --- */

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes) {
    return fails_with(MEMORY, ENOMEM) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    return fails_with(MEMORY, ENOMEM) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes) {
    return fails_with(MEMORY, ENOMEM) ? NULL : __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return fails_with(MEMORY, ENOMEM) ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    void *got = fails(MEMORY) ? NULL : __libc_memalign(alignment, bytes);
    if (got)
        *memory = got;
    return got ? 0 : ENOMEM;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (fails_with(MAPPING, ENOMEM))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
}

int memfd_create(const char *name, unsigned flags) {
    return fails_with(MAPPING, EMFILE) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

int madvise(void *address, size_t bytes, int advice) {
    return fails_with(MAPPING, EAGAIN) ? -1 : (int)syscall(SYS_madvise, address, bytes, advice);
}

/* --- files --- */

int fallocate(int file, int mode, off_t offset, off_t bytes) {
    return fails_with(SPACE, ENOSPC) ? -1 : (int)syscall(SYS_fallocate, file, mode, offset, bytes);
}

int posix_fallocate(int file, off_t offset, off_t bytes) {
    if (fails(SPACE))
        return ENOSPC;
    return syscall(SYS_fallocate, file, 0, offset, bytes) == 0 ? 0 : errno;
}

int ftruncate(int file, off_t bytes) {
    return fails_with(SPACE, EIO) ? -1 : (int)syscall(SYS_ftruncate, file, bytes);
}

int unlink(const char *path) {
    return fails_with(SPACE, EIO) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *path, int flags) {
    return fails_with(SPACE, EIO) ? -1 : (int)syscall(SYS_unlinkat, folder, path, flags);
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails_with(OPENING, EMFILE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails_with(OPENING, EMFILE) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

int socket(int domain, int type, int protocol) {
    return fails_with(OPENING, EMFILE) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

int accept(int file, struct sockaddr *address, socklen_t *bytes) {
    return fails_with(ACCEPTING, EMFILE) ? -1 : (int)syscall(SYS_accept, file, address, bytes);
}

int accept4(int file, struct sockaddr *address, socklen_t *bytes, int flags) {
    return fails_with(ACCEPTING, EMFILE) ? -1
                                         : (int)syscall(SYS_accept4, file, address, bytes, flags);
}

int fsync(int file) {
    return fails_with(SYNCING, EIO) ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return fails_with(SYNCING, EIO) ? -1 : (int)syscall(SYS_fdatasync, file);
}

int rename(const char *from, const char *to) {
    return fails_with(RENAMING, EIO) ? -1
                                     : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return fails_with(RENAMING, EIO)
               ? -1
               : (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
}

/* --- bytes in and out --- */

/* Whether a transfer fails, or with `part` how much of it is done. Neither of a pipe or an eventfd.
 */
static bool transfer_fails(int file, bool out, size_t *bytes) {
    struct stat status;
    int error = errno;
    if (!control || atomic_load(&control->kinds) == 0)
        return false;
    bool known = fstat(file, &status) == 0;
    errno = error;
    if (!known || !(S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode)))
        return false;
    bool is_socket = S_ISSOCK(status.st_mode);
    enum kind kind = is_socket ? (out ? SENDING : RECEIVING) : (out ? WRITING : READING);
    if (!fails(kind))
        return false;
    uint64_t how = atomic_load(&control->how);
    dies = how == KILL_AFTER_HALF;
    if (how != FAIL && *bytes > 1) {
        *bytes /= 2;
        return false;
    }
    errno = is_socket ? (out ? EPIPE : ECONNRESET) : (out ? ENOSPC : EIO);
    return true;
}

ssize_t write(int file, const void *bytes, size_t count) {
    return transfer_fails(file, true, &count) ? -1 : done(syscall(SYS_write, file, bytes, count));
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return transfer_fails(file, true, &count)
               ? -1
               : done(syscall(SYS_pwrite64, file, bytes, count, offset));
}

ssize_t read(int file, void *bytes, size_t count) {
    return transfer_fails(file, false, &count) ? -1 : syscall(SYS_read, file, bytes, count);
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
    return transfer_fails(file, false, &count) ? -1
                                               : syscall(SYS_pread64, file, bytes, count, offset);
}

/* Of several pieces the first half is written, of one a half. */
ssize_t writev(int file, const struct iovec *pieces, int count) {
    size_t half = (size_t)count;
    return transfer_fails(file, true, &half) ? -1 : done(syscall(SYS_writev, file, pieces, half));
}

ssize_t readv(int file, const struct iovec *pieces, int count) {
    size_t half = (size_t)count;
    return transfer_fails(file, false, &half) ? -1 : syscall(SYS_readv, file, pieces, half);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset) {
    size_t half = count > 1 ? (size_t)count : pieces->iov_len;
    if (transfer_fails(file, true, &half))
        return -1;
    if (count == 1)
        return done(syscall(SYS_pwrite64, file, pieces->iov_base, half, offset));
    return done(syscall(SYS_pwritev, file, pieces, half, offset, 0L));
}

ssize_t preadv(int file, const struct iovec *pieces, int count, off_t offset) {
    size_t half = (size_t)count;
    return transfer_fails(file, false, &half) ? -1
                                              : syscall(SYS_preadv, file, pieces, half, offset, 0L);
}

ssize_t sendmsg(int file, const struct msghdr *message, int flags) {
    struct msghdr half = *message;
    return transfer_fails(file, true, &half.msg_iovlen) ? -1
                                                        : syscall(SYS_sendmsg, file, &half, flags);
}

ssize_t recvmsg(int file, struct msghdr *message, int flags) {
    size_t one = 1;
    return transfer_fails(file, false, &one) ? -1 : syscall(SYS_recvmsg, file, message, flags);
}
