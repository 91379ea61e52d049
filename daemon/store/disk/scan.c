/* Finds out at the start what lies where: heads are read and checked, parts only where no fdatasync
 * is known to have reached. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/disk/state.h"

struct scan {
    struct disk *disk;
    struct segment *segment;
    uint8_t *head; /* the disk's, of HEAD_BYTES_MAX */
    uint8_t *part; /* for parts that are checked */
    size_t part_bytes;
    struct mark mark;
    struct history history; /* of the records that are whole */
    uint64_t whole_bytes;   /* where the last of them ends */
    bool torn, holes;       /* something is torn; and lies before a record that is whole */
    bool unread;            /* the device failed, or there was no memory to note what is there */
    struct walk walk;
};

static bool is_stopping(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    bool stopping = disk->stopping;
    pthread_mutex_unlock(&disk->lock);
    return stopping;
}

static bool provide_part(struct scan *scan, uint64_t bytes) {
    if (bytes <= scan->part_bytes)
        return true;
    uint8_t *part = realloc(scan->part, bytes);
    if (!part)
        return false;
    scan->part = part;
    scan->part_bytes = bytes;
    return true;
}

/* Whether everything of the record is there as it was written. */
static bool parts_are_whole(struct scan *scan) {
    const struct head *head = &scan->walk.head;
    uint64_t offset = scan->walk.offset + head->head_bytes;
    for (uint32_t i = 0; i < head->part_count; i++) {
        uint64_t bytes = head_part_bytes(head, scan->head, i);
        if (!provide_part(scan, bytes) ||
            segment_read_part(scan->segment, &scan->disk->scanner_guarder, scan->head, head, i,
                              offset, scan->part) < 0) {
            scan->walk.failed |= segment_could_not_read();
            return false;
        }
        offset += bytes;
    }
    return true;
}

/* Something was there, and nobody knows of which key. */
static void add_unknown(struct scan *scan) {
    struct disk *disk = scan->disk;
    const struct segment *segment = scan->segment;
    uint64_t bound = (segment->number + 1) << SEQUENCE_SHIFT;
    pthread_mutex_lock(&disk->lock);
    disk->stats.scan_unknown++;
    if (disk->unknown_sequence < bound)
        disk->unknown_sequence = bound;
    disk->index.keep_deletes = true;
    pthread_mutex_unlock(&disk->lock);
    log_error("the disk: of segment %llu a part is damaged, or beyond the memory limit",
              (unsigned long long)segment->number);
}

static void lack_memory(struct scan *scan) {
    scan->unread = true;
    add_unknown(scan);
}

static void add_record(struct scan *scan) {
    struct disk *disk = scan->disk;
    const struct head *head = &scan->walk.head;
    struct index_record record = {scan->segment, scan->walk.offset, head, false};
    pthread_mutex_lock(&disk->lock);
    bool has_room = index_reserve(&disk->index, head->key) == 0;
    if (has_room)
        index_add(&disk->index, &record);
    pthread_mutex_unlock(&disk->lock);
    if (!has_room)
        lack_memory(scan);
    struct earlier earlier = {head->key, head->sequence, scan->walk.offset};
    history_add(&scan->history, &earlier);
    scan->whole_bytes = scan->walk.next;
    scan->holes |= scan->torn;
}

static void add_damaged(struct scan *scan, const struct earlier *known, uint32_t count) {
    struct disk *disk = scan->disk;
    bool has_room = true;
    pthread_mutex_lock(&disk->lock);
    for (uint32_t i = 0; i < count && has_room; i++) {
        has_room = index_reserve(&disk->index, known[i].key) == 0;
        if (has_room)
            index_add_damaged(&disk->index, known[i].key, known[i].sequence);
    }
    disk->stats.scan_damaged += count;
    pthread_mutex_unlock(&disk->lock);
    if (!has_room)
        lack_memory(scan);
}

static void see_record(struct scan *scan) {
    const struct head *head = &scan->walk.head;
    bool synced = scan->walk.offset < scan->mark.synced_bytes;
    if (synced ? scan->walk.next <= scan->segment->end_bytes : parts_are_whole(scan)) {
        add_record(scan);
    } else if (synced || !scan->mark.known || scan->walk.failed) {
        struct earlier earlier = {head->key, head->sequence, scan->walk.offset};
        add_damaged(scan, &earlier, 1);
    } else {
        scan->torn = true;
    }
}

/* Behind what fdatasync has reached it is what was being written; where that is not known, nor what
 * stood there, it may be more. */
static void see_damage(struct scan *scan) {
    struct earlier known[HISTORY_MAX];
    bool all = true;
    if (scan->walk.damage_begin < scan->mark.synced_bytes || !scan->mark.known || scan->walk.failed)
        add_damaged(scan, known, walk_damaged(&scan->walk, &scan->mark, known, &all));
    else
        scan->torn = true;
    if (!all)
        add_unknown(scan);
}

/* What was being written when the daemon ended goes; then the segment is as any other. */
static void cut_tail(struct scan *scan) {
    struct disk *disk = scan->disk;
    struct segment *segment = scan->segment;
    if (scan->mark.closed || !scan->mark.known || scan->holes || scan->walk.failed)
        return;
    struct mark mark = {
        .synced_bytes = scan->whole_bytes, .closed = true, .history = scan->history};
    if (disk->io->truncate(segment->file, (off_t)scan->whole_bytes) < 0 ||
        disk->io->datasync(segment->file) < 0 || segment_write_mark(segment, &mark) < 0) {
        log_warning("the disk: a torn tail could not be cut: %s", strerror(errno));
        return;
    }
    pthread_mutex_lock(&disk->lock);
    disk->stats.scan_cut_bytes += segment->end_bytes - scan->whole_bytes;
    disk->used_bytes -= segment->end_bytes - scan->whole_bytes;
    segment->end_bytes = scan->whole_bytes;
    pthread_mutex_unlock(&disk->lock);
}

static void note_unread(struct scan *scan, bool unread) {
    pthread_mutex_lock(&scan->disk->lock);
    scan->disk->stats.scan_unread |= unread;
    pthread_mutex_unlock(&scan->disk->lock);
}

static void scan_segment(struct scan *scan) {
    struct disk *disk = scan->disk;
    struct segment *segment = scan->segment;
    enum walk_step step;
    segment_read_mark(segment, &scan->mark);
    scan->history = (struct history){0};
    scan->whole_bytes = SEGMENT_BEGIN;
    scan->torn = scan->holes = scan->unread = false;
    scan->walk = walk_begin(segment, &disk->scanner_guarder, scan->head);
    scan->walk.failed = scan->mark.failed;
    if (scan->walk.end < scan->mark.synced_bytes)
        scan->walk.end = scan->mark.synced_bytes;
    while (!is_stopping(disk) && (step = walk_next(&scan->walk)) != WALK_END)
        step == WALK_RECORD ? see_record(scan) : see_damage(scan);
    if (!is_stopping(disk))
        cut_tail(scan);
    pthread_mutex_lock(&disk->lock);
    segment->stuck = scan->walk.failed || scan->unread;
    segment->worth_rewriting = segment->end_bytes < disk->appender.segment_bytes / 2;
    disk->stats.scanned_bytes += segment->end_bytes;
    disk->stats.scan_unread |= segment->stuck;
    pthread_mutex_unlock(&disk->lock);
}

static void tell_found(struct scan *scan) {
    struct disk *disk = scan->disk;
    const struct head *head = &scan->walk.head;
    struct disk_found found = {head->key, &head->metadata, head->data_bytes, false};
    pthread_mutex_lock(&disk->lock);
    bool counts = index_has(&disk->index, head->key, scan->segment, scan->walk.offset);
    found.doubtful = head->sequence < disk->unknown_sequence;
    pthread_mutex_unlock(&disk->lock);
    if (counts && !head->deleted)
        disk->options.on_found(disk->options.context, &found);
}

static void tell_segment(struct scan *scan) {
    enum walk_step step;
    scan->walk = walk_begin(scan->segment, &scan->disk->scanner_guarder, scan->head);
    while (!is_stopping(scan->disk) && (step = walk_next(&scan->walk)) != WALK_END)
        if (step == WALK_RECORD)
            tell_found(scan);
    note_unread(scan, scan->walk.failed);
}

static struct segment *next_segment(struct disk *disk, const struct segment *after) {
    pthread_mutex_lock(&disk->lock);
    struct segment *segment = after ? after->next : disk->segments;
    if (segment && segment->number >= disk->first_number)
        segment = NULL;
    pthread_mutex_unlock(&disk->lock);
    return segment;
}

/* Its header could not be read, or is damaged. */
static void pass_over(struct scan *scan) {
    add_unknown(scan);
    note_unread(scan, scan->segment->stuck);
}

static void for_each_segment(struct scan *scan, void (*call)(struct scan *scan)) {
    scan->segment = NULL;
    while ((scan->segment = next_segment(scan->disk, scan->segment)) && !is_stopping(scan->disk)) {
        if (scan->segment->readable)
            call(scan);
        else if (call == scan_segment)
            pass_over(scan);
    }
}

static void finish(struct disk *disk, uint64_t begin_ns) {
    pthread_mutex_lock(&disk->lock);
    disk->scanned = true;
    disk->stats.scanned = true;
    disk->stats.scan_ns = clock_now_ns() - begin_ns;
    pthread_cond_broadcast(&disk->scan_done);
    pthread_cond_signal(&disk->write_wanted);
    pthread_mutex_unlock(&disk->lock);
}

void *disk_scanner_run(void *argument) {
    struct disk *disk = argument;
    struct scan scan = {.disk = disk, .head = disk->scanner_head};
    uint64_t begin_ns = clock_now_ns();
    pthread_setname_np(pthread_self(), "disk scanner");
    for_each_segment(&scan, scan_segment);
    if (disk->options.on_found)
        for_each_segment(&scan, tell_segment);
    free(scan.part);
    if (is_stopping(disk))
        return NULL;
    finish(disk, begin_ns);
    if (disk->options.on_scanned)
        disk->options.on_scanned(disk->options.context);
    return NULL;
}
