/* The disk's own: what its threads share, and what each of them does. */
#ifndef DAEMON_STORE_DISK_STATE_H
#define DAEMON_STORE_DISK_STATE_H

#include <pthread.h>

#include "daemon/store/disk/appender.h"
#include "daemon/store/disk/index.h"

struct job_queue {
    struct disk_job *first, **last;
    uint64_t count, bytes;
};

void job_queue_init(struct job_queue *queue);
void job_queue_add(struct job_queue *queue, struct disk_job *job);
struct disk_job *job_queue_take(struct job_queue *queue);

/* The bytes of a write's parts. */
uint64_t job_bytes(const struct disk_job *job);

struct reader {
    struct disk *disk;
    pthread_t thread;
    bool started;
    struct guarder guarder;
    uint8_t *head; /* of HEAD_BYTES_MAX */
};

/* A segment that is being rewritten, record by record. */
struct reclaim {
    struct segment *segment; /* or NULL */
    struct mark mark;
    struct walk walk;
    uint8_t *head; /* of HEAD_BYTES_MAX */
};

/* Jobs that share an fdatasync, and what each came to so far. */
enum { DISK_GROUP_JOBS = INDEX_ROOM };

struct written {
    struct disk_job *job;
    struct head head;
    struct index_record record; /* no segment: nothing was written */
};

struct group {
    struct written written[DISK_GROUP_JOBS];
    size_t count;
    uint64_t bytes;
    bool durable;
};

struct disk {
    struct disk_options options;
    const struct disk_io *io;
    int folder, lock_file;
    uint8_t key[DISK_KEY_BYTES];

    pthread_mutex_t lock; /* of all that follows, but for what belongs to a thread */
    pthread_cond_t write_wanted, read_wanted, scan_done;
    struct job_queue writes, reads;
    bool stopping, scanned;
    struct index index;
    struct segment *segments; /* by rising number */
    uint64_t used_bytes, limit_bytes;
    uint64_t first_number;     /* of the segments that are not to be scanned: of this run */
    uint64_t reclaim_after_ns; /* it failed: not again before */
    uint64_t
        unknown_sequence; /* below it a record may have been superseded by one that is damaged */
    struct disk_stats stats;

    pthread_t writer, scanner;
    bool writer_started, scanner_started;
    /* The writer's. */
    struct appender appender;
    struct guarder writer_guarder;
    struct reclaim reclaim;
    struct group group;
    uint64_t group_number; /* from this segment on there are records that do not count yet */
    /* The scanner's. */
    struct guarder scanner_guarder;
    uint8_t *scanner_head; /* of HEAD_BYTES_MAX */
    struct reader *readers;
    int reader_count;
};

/* What a thread runs; the argument is the disk, or the reader. */
void *disk_writer_run(void *argument);
void *disk_reader_run(void *argument);
void *disk_scanner_run(void *argument);

/* Writer: whether there is something to reclaim now. The lock is held. */
bool disk_wants_reclaim(struct disk *disk);

/* Writer: does some of the rewriting that there is to do. `pressed` takes what is hardly worth it
 * too. False if there was nothing to do, or it failed. */
bool disk_reclaim_step(struct disk *disk, bool pressed);

/* Writer: segments whose fdatasync failed are written anew. False if that failed too, or some are
 * of the group under way. */
bool disk_rescue(struct disk *disk);

/* Writer: whether so many bytes may be added while `reserve_bytes` remain free. */
bool disk_fits(struct disk *disk, uint64_t record_bytes, uint64_t reserve_bytes);

/* Writer: a record goes behind the others; the caller lets it count. Room for it was made. */
enum disk_status disk_append(struct disk *disk, struct head *head, const struct part_source *source,
                             struct index_record *record);

/* Writer: everything that was written becomes durable; where that fails, the group's segments from
 * the one that failed on are unsafe. */
enum disk_status disk_sync_all(struct disk *disk);

/* Writer: its fdatasync failed: it is unsafe, and ended. */
void disk_segment_failed(struct disk *disk);

/* Writer: ends the segment that is written to. */
void disk_close_segment(struct disk *disk);

#endif
