#include "daemon/store/disk/appender.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"

enum { BUFFER_BYTES_MIN = 1 << 20 };

int appender_init(struct appender *appender) {
    appender->head = malloc(HEAD_BYTES_MAX);
    return appender->head ? appender_provide(appender, BUFFER_BYTES_MIN) : -1;
}

void appender_free(struct appender *appender) {
    free(appender->head);
    free(appender->buffer);
    if (appender->budget)
        budget_release(appender->budget, appender->buffer_bytes);
}

int appender_provide(struct appender *appender, size_t bytes) {
    if (bytes <= appender->buffer_bytes)
        return 0;
    uint64_t more = bytes - appender->buffer_bytes;
    if (appender->budget && !budget_reserve(appender->budget, more))
        return -1;
    uint8_t *buffer = realloc(appender->buffer, bytes);
    if (!buffer) {
        if (appender->budget)
            budget_release(appender->budget, more);
        return -1;
    }
    appender->buffer = buffer;
    appender->buffer_bytes = bytes;
    return 0;
}

bool appender_needs_segment(const struct appender *appender, uint64_t record_bytes) {
    const struct segment *segment = appender->segment;
    return !segment || (segment->end_bytes > SEGMENT_BEGIN &&
                        segment->end_bytes + record_bytes > appender->segment_bytes);
}

int appender_begin(struct appender *appender) {
    struct segment *segment = segment_create(&appender->place, appender->next_number);
    if (!segment)
        return -1;
    appender->next_sequence = appender->next_number++ << SEQUENCE_SHIFT;
    appender->segment = segment;
    appender->mark = (struct mark){.synced_bytes = SEGMENT_BEGIN};
    appender->dirty = false;
    return 0;
}

static void write_history(struct appender *appender, const struct head *head) {
    for (uint32_t i = 0; i < head->history_count; i++)
        earlier_write(history_back(&appender->mark.history, i),
                      appender->head + head->history_offset + i * (size_t)HEAD_ENTRY_BYTES);
}

static int write_pending(struct appender *appender) {
    struct segment *segment = appender->segment;
    int status = disk_io_write(segment->io, segment->file, appender->pending,
                               appender->pending_count, appender->pending_offset);
    appender->pending_offset += appender->pending_bytes;
    appender->pending_count = appender->pending_bytes = 0;
    return status;
}

/* Where a part is encrypted to, behind those that wait, once there is room for it. NULL with errno.
 */
static uint8_t *find_room(struct appender *appender, uint64_t bytes) {
    if (appender->pending_bytes + bytes > appender->buffer_bytes && write_pending(appender) < 0)
        return NULL;
    return appender->buffer + appender->pending_bytes;
}

static int write_part(struct appender *appender, const struct head *head, uint32_t part,
                      const void *memory) {
    const struct guard *guard = &appender->segment->guard;
    uint64_t bytes = head_part_bytes(head, appender->head, part);
    if (bytes == 0)
        return 0;
    uint8_t *stored = guard->encrypted ? find_room(appender, bytes) : (uint8_t *)memory;
    struct guarded what = {
        .offset = appender->pending_offset + appender->pending_bytes,
        .beside = appender->head + HEAD_SIGNED_OFFSET,
        .beside_bytes = head->history_offset - HEAD_SIGNED_OFFSET,
        .bytes = bytes,
    };
    if (!stored)
        return -1;
    if (guard_close(appender->place.guarder, guard, &what, memory, stored,
                    head_part_tag(head, appender->head, part)) < 0) {
        errno = EIO;
        return -1;
    }
    appender->pending[appender->pending_count++] = (struct iovec){stored, bytes};
    appender->pending_bytes += bytes;
    return 0;
}

static int write_parts(struct appender *appender, const struct head *head,
                       const struct part_source *source, uint64_t offset) {
    appender->pending_count = appender->pending_bytes = 0;
    appender->pending_offset = offset + head->head_bytes;
    for (uint32_t i = 0; i < head->part_count; i++) {
        const void *memory = source->get(source->context, i);
        if (!memory || write_part(appender, head, i, memory) < 0)
            return -1;
        if ((source->passes || appender->pending_count == APPENDER_PENDING) &&
            write_pending(appender) < 0)
            return -1;
    }
    return write_pending(appender);
}

static int write_head(struct appender *appender, const struct head *head, uint64_t offset) {
    struct segment *segment = appender->segment;
    if (guard_sign(appender->place.guarder, &segment->guard, offset,
                   appender->head + HEAD_SIGNED_OFFSET, head->head_bytes - HEAD_SIGNED_OFFSET,
                   appender->head) < 0) {
        errno = EIO;
        return -1;
    }
    struct iovec stretch = {appender->head, head->head_bytes};
    return disk_io_write(segment->io, segment->file, &stretch, 1, offset);
}

int appender_write(struct appender *appender, struct head *head, const struct part_source *source,
                   uint64_t *offset) {
    struct segment *segment = appender->segment;
    *offset = segment->end_bytes;
    if (!head->sequence)
        head->sequence = appender->next_sequence++;
    head->history_count = history_length(&appender->mark.history, HEAD_HISTORY_MAX);
    head_lay_out(head);
    head_write(head, appender->head);
    write_history(appender, head);
    for (uint32_t i = 0; i < head->part_count; i++)
        head_write_part_bytes(head, appender->head, i, source->bytes(source->context, i));
    appender->dirty = true;
    if (write_parts(appender, head, source, *offset) < 0 || write_head(appender, head, *offset) < 0)
        return -1;
    /* The device may begin: fdatasync has less to wait for. What fails there fails again then. */
    (void)sync_file_range(segment->file, (off_t)*offset, (off_t)head_record_bytes(head),
                          SYNC_FILE_RANGE_WRITE);
    struct earlier earlier = {.key = head->key, .sequence = head->sequence, .offset = *offset};
    history_add(&appender->mark.history, &earlier);
    return 0;
}

/* Where a mark cannot be written, a restart checks more than it had to. */
static void write_mark(struct appender *appender) {
    if (segment_write_mark(appender->segment, &appender->mark) < 0)
        log_warning("the disk: a mark could not be written: %s", strerror(errno));
}

static int sync_data(struct appender *appender) {
    struct segment *segment = appender->segment;
    if (segment->unsafe)
        return -1;
    if (!appender->dirty)
        return 0;
    appender->dirty = false;
    if (segment->io->datasync(segment->file) < 0)
        return -1;
    if (segment_is_removed(segment)) {
        errno = ENOENT;
        return -1;
    }
    appender->mark.synced_bytes = segment->end_bytes;
    return 0;
}

int appender_sync(struct appender *appender) {
    if (!appender->segment || !appender->dirty)
        return 0;
    if (sync_data(appender) < 0)
        return -1;
    write_mark(appender);
    return 0;
}

int appender_close(struct appender *appender) {
    struct segment *segment = appender->segment;
    int status = segment->io->truncate(segment->file, (off_t)segment->end_bytes);
    if (status == 0)
        status = sync_data(appender);
    appender->mark.closed = status == 0;
    if (status == 0)
        write_mark(appender);
    appender->segment = NULL;
    return status;
}
