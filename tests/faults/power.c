#include "tests/faults/power.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/values.h"

enum { FILES_MAX = 4096, DESCRIPTORS_MAX = 8192, NAME_BYTES = 40 };

/* A file that is there, or that was unlinked since the folder was synced: such a one is hidden. */
struct file {
    char name[NAME_BYTES], hidden[NAME_BYTES];
    off_t bytes, synced_bytes;
    bool is_named; /* the folder was synced since it has its name */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES_MAX];
static size_t file_count;
static uint64_t hidden_count;
static struct file *file_of[DESCRIPTORS_MAX];
static bool has_ended, ends;
static uint64_t calls_left;

void power_end_after(uint64_t calls) {
    pthread_mutex_lock(&lock);
    ends = true;
    calls_left = calls;
    pthread_mutex_unlock(&lock);
}

bool power_has_ended(void) {
    pthread_mutex_lock(&lock);
    bool ended = has_ended;
    pthread_mutex_unlock(&lock);
    return ended;
}

void power_begin(void) {
    pthread_mutex_lock(&lock);
    ends = has_ended = false;
    pthread_mutex_unlock(&lock);
}

/* With the lock held: whether a call is done. */
static bool is_done(void) {
    if (ends && !has_ended && calls_left-- == 0)
        has_ended = true;
    if (has_ended)
        errno = EIO;
    return !has_ended;
}

static struct file *find(const char *name) {
    for (size_t i = 0; i < file_count; i++)
        if (strcmp(files[i].name, name) == 0 && !files[i].hidden[0])
            return &files[i];
    return NULL;
}

static void forget(struct file *file) {
    file->name[0] = file->hidden[0] = 0;
}

static struct file *add(const char *name) {
    if (file_count == FILES_MAX)
        abort();
    struct file *file = &files[file_count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    return file;
}

/* --- calls --- */

static int power_open(int folder, const char *name, int flags, mode_t mode) {
    pthread_mutex_lock(&lock);
    int descriptor =
        flags & O_CREAT && !is_done() ? -1 : disk_io_system.open(folder, name, flags, mode);
    if (descriptor >= DESCRIPTORS_MAX)
        abort();
    if (descriptor >= 0) {
        struct file *file = find(name);
        if (!file)
            file = add(name);
        if (flags & O_TRUNC)
            file->bytes = file->synced_bytes = 0;
        file_of[descriptor] = file;
    }
    pthread_mutex_unlock(&lock);
    return descriptor;
}

static void note_written(int descriptor, off_t end) {
    struct file *file = file_of[descriptor];
    if (file->bytes < end)
        file->bytes = end;
}

static ssize_t power_writev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    ssize_t written;
    pthread_mutex_lock(&lock);
    bool had_ended = has_ended;
    if (is_done()) {
        written = disk_io_system.writev(descriptor, parts, count, offset);
    } else {
        bool is_new = offset >= file_of[descriptor]->bytes; /* a block in place is written whole */
        struct iovec half = {parts->iov_base, had_ended || !is_new ? 0 : parts->iov_len / 2};
        written = disk_io_system.writev(descriptor, &half, 1, offset);
        note_written(descriptor, offset + written);
        written = -1;
        errno = EIO;
    }
    if (written > 0)
        note_written(descriptor, offset + written);
    pthread_mutex_unlock(&lock);
    return written;
}

static ssize_t power_readv(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return disk_io_system.readv(descriptor, parts, count, offset);
}

static int power_datasync(int descriptor) {
    pthread_mutex_lock(&lock);
    bool done = is_done();
    if (done)
        file_of[descriptor]->synced_bytes = file_of[descriptor]->bytes;
    pthread_mutex_unlock(&lock);
    return done ? 0 : -1;
}

/* Of the folder. */
static int power_sync(int folder) {
    pthread_mutex_lock(&lock);
    bool done = is_done();
    for (size_t i = 0; done && i < file_count; i++) {
        struct file *file = &files[i];
        file->is_named = true;
        if (!file->hidden[0])
            continue;
        unlinkat(folder, file->hidden, 0);
        forget(file);
    }
    pthread_mutex_unlock(&lock);
    return done ? 0 : -1;
}

static int power_truncate(int descriptor, off_t bytes) {
    pthread_mutex_lock(&lock);
    int status = is_done() ? disk_io_system.truncate(descriptor, bytes) : -1;
    if (status == 0) {
        struct file *file = file_of[descriptor];
        file->bytes = bytes;
        if (file->synced_bytes > bytes)
            file->synced_bytes = bytes;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static int power_rename(int folder, const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int status = is_done() ? disk_io_system.rename(folder, from, to) : -1;
    struct file *file = find(from);
    if (status == 0 && file) {
        snprintf(file->name, sizeof file->name, "%s", to);
        file->is_named = false;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

/* A name that was never synced is gone at once. */
static int unlink_file(int folder, struct file *file) {
    char hidden[NAME_BYTES];
    if (!file->is_named) {
        int status = disk_io_system.unlink(folder, file->name);
        forget(file);
        return status;
    }
    snprintf(hidden, sizeof hidden, "hidden %llu", (unsigned long long)++hidden_count);
    int status = disk_io_system.rename(folder, file->name, hidden);
    memcpy(file->hidden, hidden, sizeof hidden);
    return status;
}

static int power_unlink(int folder, const char *name) {
    pthread_mutex_lock(&lock);
    struct file *file = find(name);
    int status = -1;
    if (is_done())
        status = file ? unlink_file(folder, file) : disk_io_system.unlink(folder, name);
    pthread_mutex_unlock(&lock);
    return status;
}

const struct disk_io power_io = {
    .open = power_open,
    .writev = power_writev,
    .readv = power_readv,
    .datasync = power_datasync,
    .sync = power_sync,
    .truncate = power_truncate,
    .rename = power_rename,
    .unlink = power_unlink,
};

/* --- without power --- */

/* Its end is cut off somewhere behind what was synced; sometimes zeros stand there instead. */
static void lose_end(int folder, struct file *file, uint64_t random) {
    int descriptor = openat(folder, file->name, O_RDWR | O_CLOEXEC);
    off_t left =
        file->synced_bytes + (off_t)(random % (uint64_t)(file->bytes - file->synced_bytes + 1));
    if (descriptor < 0 || ftruncate(descriptor, left) < 0 ||
        (random >> 60 == 0 && ftruncate(descriptor, file->bytes) < 0))
        abort();
    close(descriptor);
    if (random >> 60 != 0)
        file->bytes = left;
}

static void lose(int folder, struct file *file, uint64_t random) {
    bool comes_back = file->hidden[0] && random >> 61 & 1;
    if (comes_back && faccessat(folder, file->name, F_OK, 0) < 0) {
        renameat(folder, file->hidden, folder, file->name);
        file->hidden[0] = 0;
    } else if (file->hidden[0]) {
        unlinkat(folder, file->hidden, 0);
        forget(file);
        return;
    }
    if (!file->is_named && random >> 62 & 1) {
        unlinkat(folder, file->name, 0);
        forget(file);
        return;
    }
    if (file->bytes > file->synced_bytes)
        lose_end(folder, file, random);
    file->synced_bytes = file->bytes;
    file->is_named = true;
}

void power_lose_unsynced(const char *directory, uint64_t random) {
    pthread_mutex_lock(&lock);
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        abort();
    for (size_t i = 0; i < file_count; i++)
        if (files[i].name[0])
            lose(folder, &files[i], values_mix(random + i));
    close(folder);
    pthread_mutex_unlock(&lock);
}
