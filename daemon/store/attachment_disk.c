#include "daemon/store/attachment_disk.h"

#include <stdlib.h>

#include "daemon/base/log.h"
#include "daemon/store/disk_tier.h"
#include "daemon/store/error.h"

struct attachment_write {
    struct disk_job job;
    struct disk_tier *tier;
    struct session *session;       /* owned reference: whose names are on disk */
    struct attachment *attachment; /* owned reference and pin */
    uint64_t drop_bytes;           /* counted as being spilled; 0: they stay */
    struct disk_part parts[];
};

static uint64_t drop_bytes(struct disk_tier *tier, struct attachment *attachment) {
    uint64_t bytes = attachment_drop_bytes(attachment);
    atomic_fetch_add(&tier->counts.spilled_bytes, bytes);
    return bytes;
}

static void end_write(struct disk_job *job) {
    struct attachment_write *write = (struct attachment_write *)job;
    struct disk_tier *tier = write->tier;
    bool done = job->status == DISK_OK;
    if (!done)
        disk_tier_tell_failure(tier, job->status, write->drop_bytes > 0);
    atomic_fetch_sub(&tier->counts.spilling_bytes, write->drop_bytes);
    attachment_end_write(write->attachment, done ? tier : NULL);
    if (done && write->drop_bytes > 0)
        drop_bytes(tier, write->attachment);
    attachment_unref(write->attachment);
    session_unref(write->session);
    free(write);
    disk_tier_tell_progress(tier);
}

static bool fill_parts(const struct attachment *attachment, struct disk_part *parts,
                       uint32_t count) {
    bool all = true;
    for (uint32_t i = 0; i < count && all; i++) {
        const uint8_t *start;
        all = attachment_find_part(attachment, i, &start, &parts[i].bytes);
        parts[i].memory = start;
    }
    return all;
}

/* NULL without memory or if the record is damaged. */
static struct attachment_write *write_new(struct disk_tier *tier, struct attachment *attachment,
                                          struct session *session) {
    uint32_t count = 1 + attachment_pieces(attachment);
    struct attachment_write *write = calloc(1, sizeof *write + count * sizeof write->parts[0]);
    if (!write || !fill_parts(attachment, write->parts, count)) {
        free(write);
        return NULL;
    }
    write->tier = tier;
    write->attachment = attachment;
    write->session = session;
    write->job = (struct disk_job){
        .operation = DISK_WRITE,
        .key = {.id = attachment->spec.id, .kind = DISK_ATTACHMENT},
        .metadata = session_metadata(session, attachment->spec.tokens),
        .parts = write->parts,
        .part_count = count,
        .done = end_write,
    };
    return write;
}

uint64_t attachment_write(struct disk_tier *tier, struct attachment *attachment,
                          struct session *session, bool drop) {
    if (!attachment_begin_write(attachment))
        return drop ? drop_bytes(tier, attachment) : 0;
    struct attachment_write *write = write_new(tier, attachment, session);
    if (!write) {
        attachment_end_write(attachment, NULL);
        return 0;
    }
    attachment_ref(attachment);
    session_ref(session);
    uint64_t bytes = attachment->extent.bytes;
    write->drop_bytes = drop ? bytes : 0;
    atomic_fetch_add(&tier->counts.spilling_bytes, write->drop_bytes);
    disk_tier_submit(tier, &write->job);
    return bytes;
}

/* --- loading --- */

struct attachment_load {
    struct disk_job job;
    struct disk_tier *tier;
    struct attachment *attachment; /* owned reference */
    struct pool_extent room;
};

static void end_load(struct disk_job *job) {
    struct attachment_load *load = (struct attachment_load *)job;
    struct disk_tier *tier = load->tier;
    struct attachment *attachment = load->attachment;
    bool is_whole = job->status == DISK_OK && job->bytes == attachment->spec.record_bytes;
    enum attachment_reading reading = is_whole                     ? ATTACHMENT_READ
                                      : job->status == DISK_FAILED ? ATTACHMENT_DEVICE_FAILED
                                                                   : ATTACHMENT_NOT_READ;
    if (attachment_end_load(attachment, &load->room, reading)) {
        atomic_fetch_add(&tier->counts.loaded_bytes, attachment->spec.record_bytes);
    } else {
        atomic_fetch_add(&tier->counts.failed_loads, 1);
        if (job->status != DISK_MISS) /* of a file that is gone the disk has told */
            log_error("an attachment on disk cannot be read: number %llu",
                      (unsigned long long)attachment->spec.id);
    }
    attachment_unref(attachment);
    free(load);
    disk_tier_tell_progress(tier);
}

int attachment_load(struct attachment *attachment) {
    struct attachment_load *load = calloc(1, sizeof *load);
    if (!load)
        return STORE_FULL;
    int status = attachment_begin_load(attachment, &load->room);
    if (status != STORE_MORE) {
        free(load);
        return status;
    }
    attachment_ref(attachment);
    load->tier = attachment->disk;
    load->attachment = attachment;
    load->job = (struct disk_job){
        .operation = DISK_READ,
        .key = {.id = attachment->spec.id, .kind = DISK_ATTACHMENT},
        .read_parts = DISK_PARTS_MAX,
        .memory = pool_memory(attachment->home.pool, &load->room),
        .capacity = (size_t)attachment->spec.record_bytes,
        .done = end_load,
    };
    disk_tier_submit(load->tier, &load->job);
    return STORE_WAIT;
}
