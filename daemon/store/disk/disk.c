#include "daemon/store/disk/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/disk/state.h"

#define SEGMENT_BYTES (UINT64_C(64) << 20)
#define SEGMENT_BYTES_MIN (UINT64_C(1) << 20)
#define QUEUE_BYTES (UINT64_C(64) << 20)

enum { READERS = 2, SEGMENTS_MIN = 16, SEGMENTS_MAX = 256 };

/* Few enough files to keep open, and many enough to reclaim one at a time. */
static uint64_t default_segment_bytes(uint64_t limit_bytes) {
    uint64_t bytes = limit_bytes / SEGMENTS_MIN;
    bytes = bytes < SEGMENT_BYTES ? bytes : SEGMENT_BYTES;
    bytes = bytes > SEGMENT_BYTES_MIN ? bytes : SEGMENT_BYTES_MIN;
    return bytes > limit_bytes / SEGMENTS_MAX ? bytes : limit_bytes / SEGMENTS_MAX;
}

static void fill_in(struct disk_options *options) {
    if (!options->segment_bytes)
        options->segment_bytes = default_segment_bytes(options->limit_bytes);
    if (!options->queue_bytes)
        options->queue_bytes = QUEUE_BYTES;
    if (!options->readers)
        options->readers = READERS;
    if (!options->io)
        options->io = &disk_io_system;
}

/* Says what is wrong, with errno's sentence where there is one. */
static int say(char *error, size_t error_bytes, const char *directory, const char *what) {
    if (errno)
        snprintf(error, error_bytes, "the disk directory %s %s: %s", directory, what,
                 strerror(errno));
    else
        snprintf(error, error_bytes, "the disk directory %s %s", directory, what);
    return -1;
}

static int open_folder(struct disk *disk, char *error, size_t error_bytes) {
    const char *directory = disk->options.directory;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return say(error, error_bytes, directory, "cannot be made");
    disk->folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->folder < 0)
        return say(error, error_bytes, directory, "cannot be opened");
    disk->lock_file = openat(disk->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (disk->lock_file < 0)
        return say(error, error_bytes, directory, "cannot be written to");
    if (flock(disk->lock_file, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        errno = 0;
    return say(error, error_bytes, directory, errno ? "cannot be locked" : "is another daemon's");
}

static const char *const fault_sentences[] = {
    [SEGMENT_WRONG_KEY] = "is encrypted with another key",
    [SEGMENT_PLAIN] = "is not encrypted, but there is a key: take an empty directory, or no key",
    [SEGMENT_ENCRYPTED] = "is encrypted: it needs its key",
    [SEGMENT_NEWER] = "was written by a newer version",
};

/* The list is by rising number; directories are in no order. */
static void insert(struct disk *disk, struct segment *segment) {
    struct segment **place = &disk->segments;
    while (*place && (*place)->number < segment->number)
        place = &(*place)->next;
    segment->next = *place;
    *place = segment;
    disk->used_bytes += segment->end_bytes;
    disk->stats.segments++;
    if (disk->appender.next_number <= segment->number)
        disk->appender.next_number = segment->number + 1;
}

static int open_segment(struct disk *disk, uint64_t number, char *error, size_t error_bytes) {
    const char *directory = disk->options.directory;
    enum segment_fault fault;
    struct segment *segment = segment_open(&disk->appender.place, number, &fault);
    if (!segment)
        return say(error, error_bytes, directory, "has a segment that cannot be opened");
    errno = 0;
    insert(disk, segment);
    return fault == SEGMENT_FINE || fault == SEGMENT_DAMAGED
               ? 0
               : say(error, error_bytes, directory, fault_sentences[fault]);
}

static int open_segments(struct disk *disk, char *error, size_t error_bytes) {
    const struct dirent *entry;
    int status = 0, copy = dup(disk->folder);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return say(error, error_bytes, disk->options.directory, "cannot be read");
    while (status == 0 && (entry = readdir(folder))) {
        uint64_t number = segment_number(entry->d_name);
        if (number)
            status = open_segment(disk, number, error, error_bytes);
    }
    closedir(folder);
    disk->first_number = disk->appender.next_number;
    return status;
}

static int init_readers(struct disk *disk) {
    disk->readers = calloc((size_t)disk->options.readers, sizeof *disk->readers);
    if (!disk->readers)
        return -1;
    for (; disk->reader_count < disk->options.readers; disk->reader_count++) {
        struct reader *reader = &disk->readers[disk->reader_count];
        reader->disk = disk;
        reader->head = malloc(HEAD_BYTES_MAX);
        if (guarder_init(&reader->guarder) < 0 || !reader->head)
            return -1;
    }
    return 0;
}

/* What the disk needs however little is on it. */
static uint64_t own_bytes(const struct disk *disk) {
    return sizeof *disk + (uint64_t)(disk->options.readers + 3) * HEAD_BYTES_MAX;
}

static int init(struct disk *disk) {
    struct disk_options *options = &disk->options;
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->write_wanted, NULL);
    pthread_cond_init(&disk->read_wanted, NULL);
    pthread_cond_init(&disk->scan_done, NULL);
    job_queue_init(&disk->writes);
    job_queue_init(&disk->reads);
    disk->group_number = UINT64_MAX;
    disk->limit_bytes = options->limit_bytes;
    if (options->key)
        memcpy(disk->key, options->key, sizeof disk->key);
    disk->appender = (struct appender){
        .place = {.io = options->io,
                  .key = options->key ? disk->key : NULL,
                  .guarder = &disk->writer_guarder},
        .budget = options->budget,
        .segment_bytes = options->segment_bytes,
        .next_number = 1,
    };
    disk->reclaim.head = malloc(HEAD_BYTES_MAX);
    disk->scanner_head = malloc(HEAD_BYTES_MAX);
    return index_init(&disk->index, options->budget) < 0 || appender_init(&disk->appender) < 0 ||
                   guarder_init(&disk->writer_guarder) < 0 ||
                   guarder_init(&disk->scanner_guarder) < 0 || !disk->reclaim.head ||
                   !disk->scanner_head
               ? -1
               : init_readers(disk);
}

static int start(struct disk *disk) {
    for (int i = 0; i < disk->reader_count; i++) {
        struct reader *reader = &disk->readers[i];
        reader->started = pthread_create(&reader->thread, NULL, disk_reader_run, reader) == 0;
        if (!reader->started)
            return -1;
    }
    disk->writer_started = pthread_create(&disk->writer, NULL, disk_writer_run, disk) == 0;
    if (!disk->writer_started)
        return -1;
    disk->scanner_started = pthread_create(&disk->scanner, NULL, disk_scanner_run, disk) == 0;
    return disk->scanner_started ? 0 : -1;
}

static void stop(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    disk->stopping = true;
    pthread_cond_broadcast(&disk->write_wanted);
    pthread_cond_broadcast(&disk->read_wanted);
    pthread_cond_broadcast(&disk->scan_done);
    pthread_mutex_unlock(&disk->lock);
    if (disk->scanner_started)
        pthread_join(disk->scanner, NULL);
    if (disk->writer_started)
        pthread_join(disk->writer, NULL);
    for (int i = 0; i < disk->reader_count; i++)
        if (disk->readers[i].started)
            pthread_join(disk->readers[i].thread, NULL);
}

static void free_readers(struct disk *disk) {
    for (int i = 0; disk->readers && i < disk->options.readers; i++) {
        guarder_free(&disk->readers[i].guarder);
        free(disk->readers[i].head);
    }
    free(disk->readers);
}

static void free_segments(struct disk *disk) {
    for (struct segment *segment = disk->segments, *next; segment; segment = next) {
        next = segment->next;
        segment_unref(segment);
    }
}

void disk_close(struct disk *disk) {
    stop(disk);
    free_readers(disk);
    free_segments(disk);
    guarder_free(&disk->writer_guarder);
    guarder_free(&disk->scanner_guarder);
    appender_free(&disk->appender);
    index_free(&disk->index);
    free(disk->reclaim.head);
    free(disk->scanner_head);
    if (disk->lock_file >= 0)
        close(disk->lock_file);
    if (disk->folder >= 0)
        close(disk->folder);
    pthread_cond_destroy(&disk->write_wanted);
    pthread_cond_destroy(&disk->read_wanted);
    pthread_cond_destroy(&disk->scan_done);
    pthread_mutex_destroy(&disk->lock);
    if (disk->options.budget)
        budget_release(disk->options.budget, own_bytes(disk));
    explicit_bzero(disk, sizeof *disk);
    free(disk);
}

static struct disk *new_disk(const struct disk_options *options) {
    struct disk *disk = calloc(1, sizeof *disk);
    if (!disk)
        return NULL;
    disk->options = *options;
    fill_in(&disk->options);
    disk->io = disk->options.io;
    disk->folder = disk->lock_file = -1;
    if (options->budget && !budget_reserve(options->budget, own_bytes(disk))) {
        free(disk);
        return NULL;
    }
    return disk;
}

struct disk *disk_open(const struct disk_options *options, char *error, size_t error_bytes) {
    struct disk *disk = new_disk(options);
    errno = ENOMEM;
    if (!disk || init(disk) < 0) {
        say(error, error_bytes, options->directory, "cannot be served");
    } else if (open_folder(disk, error, error_bytes) == 0) {
        disk->appender.place.folder = disk->folder;
        if (open_segments(disk, error, error_bytes) == 0) {
            if (start(disk) == 0)
                return disk;
            say(error, error_bytes, options->directory, "cannot be served");
        }
    }
    if (disk)
        disk_close(disk);
    return NULL;
}

void job_queue_init(struct job_queue *queue) {
    *queue = (struct job_queue){.last = &queue->first};
}

uint64_t job_bytes(const struct disk_job *job) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; job->operation == DISK_WRITE && i < job->part_count; i++)
        bytes += job->parts[i].bytes;
    return bytes;
}

void job_queue_add(struct job_queue *queue, struct disk_job *job) {
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
    queue->count++;
    queue->bytes += job_bytes(job);
}

struct disk_job *job_queue_take(struct job_queue *queue) {
    struct disk_job *job = queue->first;
    if (!job)
        return NULL;
    queue->first = job->next;
    if (!queue->first)
        queue->last = &queue->first;
    queue->count--;
    queue->bytes -= job_bytes(job);
    return job;
}

bool disk_submit(struct disk *disk, struct disk_job *job) {
    bool reads = job->operation == DISK_READ;
    pthread_mutex_lock(&disk->lock);
    bool taken = job->operation != DISK_WRITE || disk->writes.bytes == 0 ||
                 disk->writes.bytes + job_bytes(job) <= disk->options.queue_bytes;
    if (taken) {
        job_queue_add(reads ? &disk->reads : &disk->writes, job);
        pthread_cond_signal(reads ? &disk->read_wanted : &disk->write_wanted);
    }
    pthread_mutex_unlock(&disk->lock);
    return taken;
}

void disk_forget(struct disk *disk, struct disk_key key) {
    pthread_mutex_lock(&disk->lock);
    index_forget(&disk->index, key);
    pthread_cond_signal(&disk->write_wanted); /* there may be something to reclaim */
    pthread_mutex_unlock(&disk->lock);
}

uint64_t disk_find(struct disk *disk, struct disk_key key) {
    pthread_mutex_lock(&disk->lock);
    const struct index_entry *entry = index_find(&disk->index, key);
    bool certain = entry && entry->state == INDEX_VALUE &&
                   (disk->scanned || entry->segment->number >= disk->first_number);
    uint64_t bytes = certain ? entry->data_bytes : 0;
    pthread_mutex_unlock(&disk->lock);
    return bytes;
}

bool disk_is_scanned(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    bool scanned = disk->scanned;
    pthread_mutex_unlock(&disk->lock);
    return scanned;
}

void disk_read_stats(struct disk *disk, struct disk_stats *stats) {
    pthread_mutex_lock(&disk->lock);
    *stats = disk->stats;
    stats->limit_bytes = disk->limit_bytes;
    stats->used_bytes = disk->used_bytes;
    stats->values = disk->index.values;
    stats->queued_jobs = disk->writes.count + disk->reads.count;
    stats->queued_bytes = disk->writes.bytes;
    for (const struct segment *segment = disk->segments; segment; segment = segment->next)
        stats->live_bytes += segment->live_bytes;
    pthread_mutex_unlock(&disk->lock);
}

void disk_set_limit(struct disk *disk, uint64_t limit_bytes) {
    pthread_mutex_lock(&disk->lock);
    disk->limit_bytes = limit_bytes;
    pthread_cond_signal(&disk->write_wanted);
    pthread_mutex_unlock(&disk->lock);
}
