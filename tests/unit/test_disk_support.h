/* A disk in a directory of its own, and calls that wait for what they ask. */
#ifndef TESTS_UNIT_TEST_DISK_SUPPORT_H
#define TESTS_UNIT_TEST_DISK_SUPPORT_H

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/disk/disk.h"
#include "daemon/store/disk/io.h"

enum { DISK_TEST_LIMIT = 8 << 20, DISK_TEST_SEGMENT = 256 << 10, DISK_TEST_FOUND_MAX = 4096 };

enum { CHUNK = 1, SESSION = 2 };

static char directory[64];
static struct disk *disk;
static struct disk_options options;
static uint8_t secret[DISK_KEY_BYTES];
static char disk_error[256];

/* What the scan told of. */
static struct disk_key found[DISK_TEST_FOUND_MAX];
static bool found_doubtful[DISK_TEST_FOUND_MAX];
static size_t found_count;
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool scanned;
} signals = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note_found(void *context, const struct disk_found *value) {
    (void)context;
    ck_assert_uint_lt(found_count, DISK_TEST_FOUND_MAX);
    found[found_count] = value->key;
    found_doubtful[found_count++] = value->doubtful;
}

static void note_scanned(void *context) {
    (void)context;
    pthread_mutex_lock(&signals.lock);
    signals.scanned = true;
    pthread_cond_broadcast(&signals.changed);
    pthread_mutex_unlock(&signals.lock);
}

static inline bool try_open(void) {
    found_count = 0;
    signals.scanned = false;
    options.directory = directory;
    options.on_found = note_found;
    options.on_scanned = note_scanned;
    disk = disk_open(&options, disk_error, sizeof disk_error);
    return disk != NULL;
}

static inline void await_scan(void) {
    pthread_mutex_lock(&signals.lock);
    while (!signals.scanned)
        pthread_cond_wait(&signals.changed, &signals.lock);
    pthread_mutex_unlock(&signals.lock);
}

static inline void open_disk(void) {
    ck_assert_msg(try_open(), "%s", disk_error);
    await_scan();
}

static inline void close_disk(void) {
    if (disk)
        disk_close(disk);
    disk = NULL;
}

static inline void reopen_disk(void) {
    close_disk();
    open_disk();
}

static void make_directory(void) {
    /* In memory, where there is such a place: it is opened and synced thousands of times. */
    snprintf(directory, sizeof directory, "/dev/shm/kvq-disk-XXXXXX");
    if (!mkdtemp(directory)) {
        snprintf(directory, sizeof directory, "/tmp/kvq-disk-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
    }
    options =
        (struct disk_options){.limit_bytes = DISK_TEST_LIMIT, .segment_bytes = DISK_TEST_SEGMENT};
    for (int i = 0; i < DISK_KEY_BYTES; i++)
        secret[i] = (uint8_t)(7 * i + 1);
}

static void path_of(const char *name, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s/%.255s", directory, name);
}

/* The names of the segments, oldest first; how many there are. */
static inline size_t list_segments(char names[][32], size_t max) {
    struct dirent **entries;
    int entry_count = scandir(directory, &entries, NULL, alphasort);
    size_t count = 0;
    ck_assert_int_ge(entry_count, 0);
    for (int i = 0; i < entry_count; i++) {
        if (strstr(entries[i]->d_name, ".segment") && count < max)
            snprintf(names[count++], 32, "%.31s", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return count;
}

static void remove_directory(void) {
    char path[400];
    struct dirent **entries;
    close_disk();
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        path_of(entries[i]->d_name, path, sizeof path);
        unlink(path);
        free(entries[i]);
    }
    free(entries);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void note_done(struct disk_job *job) {
    pthread_mutex_lock(&signals.lock);
    *(bool *)job->context = true;
    pthread_cond_broadcast(&signals.changed);
    pthread_mutex_unlock(&signals.lock);
}

static enum disk_status run_job(struct disk_job *job) {
    bool done = false;
    job->done = note_done;
    job->context = &done;
    ck_assert(disk_submit(disk, job));
    pthread_mutex_lock(&signals.lock);
    while (!done)
        pthread_cond_wait(&signals.changed, &signals.lock);
    pthread_mutex_unlock(&signals.lock);
    return job->status;
}

static inline struct disk_metadata metadata_of(uint64_t version) {
    return (struct disk_metadata){.tenant = "default",
                                  .tenant_bytes = 7,
                                  .model = "a model",
                                  .model_bytes = 7,
                                  .session = "a session",
                                  .session_bytes = 9,
                                  .first_token = 128,
                                  .tokens = 64,
                                  .version = version,
                                  .level = -1};
}

static inline enum disk_status write_parts(struct disk_key key, const struct disk_part *parts,
                                           uint32_t count, bool durable) {
    struct disk_job job = {.operation = DISK_WRITE,
                           .key = key,
                           .durable = durable,
                           .metadata = metadata_of(key.id),
                           .parts = parts,
                           .part_count = count};
    return run_job(&job);
}

/* A value of three parts that follows from a number. */
static void fill(uint8_t *bytes, size_t count, uint64_t number) {
    for (size_t i = 0; i < count; i++) {
        number = number * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (uint8_t)(number >> 56);
    }
}

static inline enum disk_status try_write(struct disk_key key, uint64_t number, size_t count,
                                         bool durable) {
    uint8_t *bytes = malloc(count);
    fill(bytes, count, number);
    struct disk_part parts[3] = {
        {bytes, count / 3}, {bytes + count / 3, 0}, {bytes + count / 3, count - count / 3}};
    enum disk_status status = write_parts(key, parts, 3, durable);
    free(bytes);
    return status;
}

static inline void write_value(struct disk_key key, uint64_t number, size_t count) {
    ck_assert_int_eq(try_write(key, number, count, false), DISK_OK);
}

static inline enum disk_status read_bytes(struct disk_key key, uint8_t *memory, size_t capacity,
                                          size_t *count) {
    struct disk_job job = {.operation = DISK_READ,
                           .key = key,
                           .read_parts = DISK_PARTS_MAX,
                           .memory = memory,
                           .capacity = capacity};
    enum disk_status status = run_job(&job);
    *count = job.bytes;
    return status;
}

/* DISK_OK only if it is that value to the last bit: another is the test's end. */
static inline enum disk_status try_read(struct disk_key key, uint64_t number, size_t count) {
    uint8_t *expected = malloc(count), *memory = malloc(count + 1);
    size_t read_count;
    fill(expected, count, number);
    enum disk_status status = read_bytes(key, memory, count, &read_count);
    if (status == DISK_OK) {
        ck_assert_uint_eq(read_count, count);
        ck_assert_mem_eq(memory, expected, count);
    }
    free(expected);
    free(memory);
    return status;
}

static inline void read_value(struct disk_key key, uint64_t number, size_t count) {
    ck_assert_int_eq(try_read(key, number, count), DISK_OK);
}

static inline enum disk_status delete_value(struct disk_key key) {
    struct disk_job job = {.operation = DISK_DELETE, .key = key};
    return run_job(&job);
}

static inline enum disk_status sync_disk(void) {
    struct disk_job job = {.operation = DISK_SYNC};
    return run_job(&job);
}

static inline struct disk_stats stats_now(void) {
    struct disk_stats stats;
    disk_read_stats(disk, &stats);
    return stats;
}

#endif
