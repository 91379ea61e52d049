/* Rewriting of segments: what counts is copied behind the rest, made durable, and the file is gone.
 */
#include <errno.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/disk/state.h"

#define RETRY_NS (1 * CLOCK_NS_PER_S)

static uint64_t dead_bytes(const struct segment *segment) {
    uint64_t bytes = segment->end_bytes - segment->live_bytes;
    return bytes > SEGMENT_BEGIN ? bytes - SEGMENT_BEGIN : 0;
}

static bool is_worth_it(const struct segment *segment, bool pressed) {
    return segment->live_bytes == 0 || segment->worth_rewriting ||
           dead_bytes(segment) > segment->end_bytes / (pressed ? 4 : 2);
}

/* What counts in it has to fit beside it. */
static bool may_take(const struct disk *disk, const struct segment *segment) {
    return segment->readable && !segment->stuck && segment != disk->appender.segment &&
           segment->number < disk->group_number &&
           (segment->live_bytes == 0 ||
            disk->used_bytes + segment->live_bytes + SEGMENT_BEGIN <= disk->limit_bytes);
}

/* Of those that are unsafe the newest, so that no copy lies in one that is. The lock is held. */
static struct segment *choose_unsafe(const struct disk *disk) {
    struct segment *unsafe = NULL;
    for (struct segment *segment = disk->segments; segment; segment = segment->next)
        if (disk->scanned && segment->unsafe && may_take(disk, segment))
            unsafe = segment;
    return unsafe;
}

/* The one in need, else the one with most to gain. The lock is held. */
static struct segment *choose(const struct disk *disk, bool pressed) {
    struct segment *best = NULL, *unsafe = choose_unsafe(disk);
    if (unsafe || !disk->scanned)
        return unsafe;
    for (struct segment *segment = disk->segments; segment; segment = segment->next)
        if (may_take(disk, segment) && is_worth_it(segment, pressed) &&
            (!best || dead_bytes(segment) > dead_bytes(best)))
            best = segment;
    return best;
}

bool disk_wants_reclaim(struct disk *disk) {
    if (!disk->reclaim.segment && !choose(disk, false))
        return false;
    return disk->scanned && clock_now_ns() >= disk->reclaim_after_ns;
}

static void begin(struct disk *disk, struct segment *segment) {
    struct reclaim *reclaim = &disk->reclaim;
    reclaim->segment = segment;
    segment_read_mark(segment, &reclaim->mark);
    reclaim->walk = walk_begin(segment, &disk->writer_guarder, reclaim->head);
    if (reclaim->walk.end < reclaim->mark.synced_bytes)
        reclaim->walk.end = reclaim->mark.synced_bytes;
}

/* A part of the record that is being copied, read and checked. */
static const void *copied_part(void *context, uint32_t part) {
    struct disk *disk = context;
    struct reclaim *reclaim = &disk->reclaim;
    const struct head *head = &reclaim->walk.head;
    uint64_t offset = reclaim->walk.offset + head->head_bytes;
    for (uint32_t i = 0; i < part; i++)
        offset += head_part_bytes(head, reclaim->head, i);
    return segment_read_part(reclaim->segment, &disk->writer_guarder, reclaim->head, head, part,
                             offset, disk->appender.buffer) < 0
               ? NULL
               : disk->appender.buffer;
}

static uint64_t copied_part_bytes(void *context, uint32_t part) {
    const struct disk *disk = context;
    return head_part_bytes(&disk->reclaim.walk.head, disk->reclaim.head, part);
}

static int provide_buffer(struct disk *disk) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < disk->reclaim.walk.head.part_count; i++) {
        uint64_t bytes = copied_part_bytes(disk, i);
        largest = bytes > largest ? bytes : largest;
    }
    return appender_provide(&disk->appender, largest);
}

enum parts { PARTS_WHOLE, PARTS_DAMAGED, PARTS_UNREADABLE };

static enum parts check_parts(struct disk *disk) {
    for (uint32_t i = 0; i < disk->reclaim.walk.head.part_count; i++)
        if (!copied_part(disk, i))
            return segment_could_not_read() ? PARTS_UNREADABLE : PARTS_DAMAGED;
    return PARTS_WHOLE;
}

/* Writes the record again; `head` has its sequence number. False if it could not be written. */
static bool append(struct disk *disk, struct head *head) {
    struct part_source source = {copied_part, copied_part_bytes, disk, true};
    struct index_record record;
    head->history_count = HEAD_HISTORY_MAX;
    head_lay_out(head);
    if (!disk_fits(disk, head_record_bytes(head), 0) ||
        disk_append(disk, head, &source, &record) != DISK_OK)
        return false;
    pthread_mutex_lock(&disk->lock);
    const struct index_entry *entry = index_find(&disk->index, head->key);
    record.replaces = entry && entry->state != INDEX_FORGOTTEN;
    index_add(&disk->index, &record);
    disk->stats.copied_bytes += head_record_bytes(head);
    pthread_mutex_unlock(&disk->lock);
    return true;
}

/* A delete in place of what is damaged: nothing older may take its place. */
static bool append_delete(struct disk *disk, struct disk_key key, uint64_t sequence) {
    struct head head = {.key = key, .deleted = true, .sequence = sequence};
    return append(disk, &head);
}

static bool copy_record(struct disk *disk) {
    struct reclaim *reclaim = &disk->reclaim;
    struct head head = reclaim->walk.head;
    pthread_mutex_lock(&disk->lock);
    if (head.deleted)
        index_drop_needless(&disk->index, head.key);
    bool counts = index_has(&disk->index, head.key, reclaim->segment, reclaim->walk.offset);
    bool lost = index_wants_delete(&disk->index, head.key, head.sequence);
    pthread_mutex_unlock(&disk->lock);
    if (lost)
        return append_delete(disk, head.key, head.sequence);
    if (!counts)
        return true;
    if (provide_buffer(disk) < 0)
        return false;
    switch (check_parts(disk)) {
    case PARTS_WHOLE:
        return append(disk, &head);
    case PARTS_UNREADABLE:
        log_error("the disk: a segment cannot be read: %s", strerror(errno));
        reclaim->segment->stuck = !reclaim->segment->unsafe; /* nothing is durable before that is */
        return false;
    case PARTS_DAMAGED:
        break;
    }
    pthread_mutex_lock(&disk->lock);
    disk->stats.damaged_reads++;
    pthread_mutex_unlock(&disk->lock);
    return append_delete(disk, head.key, head.sequence);
}

static bool replace_damaged(struct disk *disk) {
    struct earlier known[HISTORY_MAX];
    bool all, done = true;
    uint32_t count = walk_damaged(&disk->reclaim.walk, &disk->reclaim.mark, known, &all);
    for (uint32_t i = 0; i < count && done; i++) {
        pthread_mutex_lock(&disk->lock);
        bool wanted = index_wants_delete(&disk->index, known[i].key, known[i].sequence);
        pthread_mutex_unlock(&disk->lock);
        done = !wanted || append_delete(disk, known[i].key, known[i].sequence);
    }
    return done;
}

/* Copies that lie in a segment whose fdatasync failed are none. */
static bool copies_are_safe(struct disk *disk, const struct segment *of) {
    if (appender_sync(&disk->appender) < 0) {
        disk_segment_failed(disk);
        return false;
    }
    for (const struct segment *segment = of->next; segment; segment = segment->next)
        if (segment->unsafe)
            return false;
    pthread_mutex_lock(&disk->lock);
    bool all_copied = of->live_bytes == 0;
    pthread_mutex_unlock(&disk->lock);
    return all_copied;
}

static int unlink_file(struct disk *disk, struct segment *segment) {
    char name[SEGMENT_NAME_BYTES];
    segment->retired = true;
    segment_name(segment->number, name);
    if (disk->io->unlink(disk->folder, name) < 0 && errno != ENOENT) /* the sync failed before */
        return -1;
    return disk->io->sync(disk->folder);
}

static void take_out(struct disk *disk, struct segment *segment) {
    pthread_mutex_lock(&disk->lock);
    struct segment **place = &disk->segments;
    while (*place != segment)
        place = &(*place)->next;
    *place = segment->next;
    disk->used_bytes -= segment->end_bytes;
    disk->stats.segments--;
    disk->stats.reclaimed_segments++;
    disk->stats.reclaimed_bytes += segment->end_bytes;
    pthread_mutex_unlock(&disk->lock);
}

/* Once the file is gone for good, none of its records has to be outlasted any more. */
static void forget_records(struct disk *disk) {
    struct reclaim *reclaim = &disk->reclaim;
    struct earlier known[HISTORY_MAX];
    enum walk_step step;
    bool all;
    begin(disk, reclaim->segment);
    while ((step = walk_next(&reclaim->walk)) != WALK_END) {
        uint32_t count = 1;
        if (step == WALK_DAMAGE)
            count = walk_damaged(&reclaim->walk, &reclaim->mark, known, &all);
        else
            known[0].key = reclaim->walk.head.key;
        pthread_mutex_lock(&disk->lock);
        for (uint32_t i = 0; i < count; i++)
            index_remove_stale(&disk->index, known[i].key);
        pthread_mutex_unlock(&disk->lock);
    }
}

static bool finish(struct disk *disk) {
    struct segment *segment = disk->reclaim.segment;
    if (!copies_are_safe(disk, segment))
        return false;
    if (unlink_file(disk, segment) < 0) {
        log_error("the disk: a segment could not be removed: %s", strerror(errno));
        return false;
    }
    take_out(disk, segment);
    forget_records(disk);
    disk->reclaim.segment = NULL;
    segment_unref(segment);
    return true;
}

static bool take_step(struct disk *disk) {
    if (disk->reclaim.mark.failed)
        return false; /* it tells what must not be lost sight of */
    switch (walk_next(&disk->reclaim.walk)) {
    case WALK_RECORD:
        return copy_record(disk);
    case WALK_DAMAGE:
        return replace_damaged(disk);
    case WALK_END:
        return finish(disk);
    }
    return false;
}

static bool go_on(struct disk *disk) {
    if (take_step(disk))
        return true;
    disk->reclaim.segment = NULL;
    disk->reclaim_after_ns = clock_now_ns() + RETRY_NS;
    return false;
}

bool disk_reclaim_step(struct disk *disk, bool pressed) {
    if (!disk->reclaim.segment) {
        pthread_mutex_lock(&disk->lock);
        struct segment *segment = choose(disk, pressed);
        pthread_mutex_unlock(&disk->lock);
        if (!segment)
            return false;
        begin(disk, segment);
    }
    return go_on(disk);
}

static const struct segment *find_unsafe(const struct disk *disk) {
    const struct segment *segment = disk->segments;
    while (segment && !segment->unsafe)
        segment = segment->next;
    return segment;
}

/* False if none can be: what else there is to reclaim is no help. */
static bool take_unsafe(struct disk *disk) {
    const struct segment *taken = disk->reclaim.segment;
    if (taken && taken->unsafe)
        return true;
    pthread_mutex_lock(&disk->lock);
    struct segment *segment = choose_unsafe(disk);
    pthread_mutex_unlock(&disk->lock);
    if (segment)
        begin(disk, segment);
    return segment != NULL;
}

bool disk_rescue(struct disk *disk) {
    while (find_unsafe(disk))
        if (!take_unsafe(disk) || !go_on(disk))
            return false;
    return true;
}
