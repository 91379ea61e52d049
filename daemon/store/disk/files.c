/* The segment that is written to: begun, filled, synced and ended, and counted against the limit.
 */
#include <errno.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/store/disk/state.h"

bool disk_fits(struct disk *disk, uint64_t record_bytes, uint64_t reserve_bytes) {
    uint64_t more_bytes = record_bytes + reserve_bytes;
    if (appender_needs_segment(&disk->appender, record_bytes))
        more_bytes += SEGMENT_BEGIN;
    pthread_mutex_lock(&disk->lock);
    bool fits = disk->used_bytes + more_bytes <= disk->limit_bytes;
    pthread_mutex_unlock(&disk->lock);
    return fits;
}

static enum disk_status failure(const char *what) {
    if (errno == ENOSPC || errno == EDQUOT)
        return DISK_FULL;
    log_error("the disk: %s failed: %s", what, strerror(errno));
    return DISK_FAILED;
}

/* Behind the others, which have lower numbers. */
static void add_segment(struct disk *disk, struct segment *segment) {
    pthread_mutex_lock(&disk->lock);
    struct segment **last = &disk->segments;
    while (*last)
        last = &(*last)->next;
    *last = segment;
    disk->stats.segments++;
    disk->used_bytes += segment->end_bytes;
    pthread_mutex_unlock(&disk->lock);
}

static void note_unsafe(struct disk *disk, struct segment *segment) {
    if (segment->unsafe)
        return;
    log_error("the disk: a segment could not be made durable: %s", strerror(errno));
    pthread_mutex_lock(&disk->lock);
    segment->unsafe = true;
    disk->stats.failed_syncs++;
    pthread_mutex_unlock(&disk->lock);
}

void disk_close_segment(struct disk *disk) {
    struct segment *segment = disk->appender.segment;
    if (appender_close(&disk->appender) < 0)
        note_unsafe(disk, segment);
}

void disk_segment_failed(struct disk *disk) {
    note_unsafe(disk, disk->appender.segment);
    disk_close_segment(disk);
}

static enum disk_status make_segment(struct disk *disk, uint64_t record_bytes) {
    if (!appender_needs_segment(&disk->appender, record_bytes))
        return DISK_OK;
    if (disk->appender.segment)
        disk_close_segment(disk);
    if (appender_begin(&disk->appender) < 0)
        return failure("creating a segment");
    add_segment(disk, disk->appender.segment);
    return DISK_OK;
}

enum disk_status disk_append(struct disk *disk, struct head *head, const struct part_source *source,
                             struct index_record *record) {
    head->history_count = HEAD_HISTORY_MAX;
    head_lay_out(head);
    enum disk_status status = make_segment(disk, head_record_bytes(head));
    if (status != DISK_OK)
        return status;
    *record = (struct index_record){.segment = disk->appender.segment, .head = head};
    if (appender_write(&disk->appender, head, source, &record->offset) < 0) {
        status = failure("a write");
        disk_close_segment(disk);
        record->segment = NULL;
        return status;
    }
    pthread_mutex_lock(&disk->lock);
    record->segment->end_bytes += head_record_bytes(head);
    disk->used_bytes += head_record_bytes(head);
    pthread_mutex_unlock(&disk->lock);
    return DISK_OK;
}

/* What stands behind an unsafe segment is not acknowledged either, and so must not come back: it is
 * unsafe too. True if there was one. */
static bool spread_unsafe(struct disk *disk) {
    bool unsafe = false;
    for (struct segment *segment = disk->segments; segment; segment = segment->next) {
        unsafe |= segment->unsafe;
        segment->unsafe = unsafe;
        if (segment == disk->appender.segment && unsafe)
            disk_close_segment(disk);
    }
    return unsafe;
}

enum disk_status disk_sync_all(struct disk *disk) {
    if (appender_sync(&disk->appender) < 0)
        disk_segment_failed(disk);
    pthread_mutex_lock(&disk->lock);
    disk->stats.groups++;
    pthread_mutex_unlock(&disk->lock);
    return spread_unsafe(disk) ? DISK_FAILED : DISK_OK;
}
