#include "daemon/store/attachment.h"

#include <stdlib.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY /* contexts in the caller's memory */
#include <zstd.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/disk_tier.h"
#include "daemon/store/error.h"
#include "daemon/store/record.h"

enum {
    MAGIC_BYTES = 8,
    FORMAT = 1,
    FIXED_BYTES = 64,
    HASH_OFFSET = 56,
    ENTRY_BYTES = 16,
    COMPRESSION_LEVEL = 3,
    ALIGNMENT = 64, /* of a batch's bytes */
};

#define RETRY_NS CLOCK_NS_PER_S

static const char magic[MAGIC_BYTES + 1] = "KVQATTCH";

static uint64_t handle_bytes(const struct attachment *attachment) {
    return sizeof *attachment + attachment->spec.name_bytes;
}

static size_t directory_offset(const struct attachment *attachment) {
    return (FIXED_BYTES + attachment->spec.name_bytes + 7) / 8 * 8;
}

static size_t header_bytes(const struct attachment *attachment) {
    size_t end = directory_offset(attachment) + (size_t)attachment_pieces(attachment) * ENTRY_BYTES;
    return attachment->spec.is_batch ? (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : end;
}

uint32_t attachment_pieces(const struct attachment *attachment) {
    return (uint32_t)((attachment->spec.bytes + ATTACHMENT_PIECE_BYTES - 1) /
                      ATTACHMENT_PIECE_BYTES);
}

size_t attachment_piece_bytes(const struct attachment *attachment, uint32_t piece) {
    uint64_t left = attachment->spec.bytes - (uint64_t)piece * ATTACHMENT_PIECE_BYTES;
    return left < ATTACHMENT_PIECE_BYTES ? (size_t)left : ATTACHMENT_PIECE_BYTES;
}

struct attachment *attachment_new(const struct attachment_home *home,
                                  const struct attachment_spec *spec) {
    uint64_t bytes = sizeof(struct attachment) + spec->name_bytes;
    if (!budget_reserve(home->budget, bytes))
        return NULL;
    struct attachment *attachment = calloc(1, bytes);
    if (!attachment) {
        budget_release(home->budget, bytes);
        return NULL;
    }
    attachment->home = *home;
    attachment->spec = *spec;
    if (spec->name_bytes > 0)
        memcpy(attachment->name, spec->name, spec->name_bytes);
    attachment->spec.name = attachment->name;
    pthread_mutex_init(&attachment->lock, NULL);
    atomic_init(&attachment->references, 1);
    return attachment;
}

void attachment_ref(struct attachment *attachment) {
    atomic_fetch_add(&attachment->references, 1);
}

/* Gives back what lies behind so many bytes of an extent that is reserved whole. */
static void give(const struct attachment_home *home, struct pool_extent *extent, uint64_t keep) {
    pool_give(home->pool, extent, keep, home->budget, extent->bytes - keep);
    budget_tell_waiting(home->budget); /* also of what stays warm */
}

void attachment_unref(struct attachment *attachment) {
    if (atomic_fetch_sub(&attachment->references, 1) > 1)
        return;
    if (attachment->disk)
        disk_tier_forget(attachment->disk, DISK_ATTACHMENT, attachment->spec.id);
    attachment_put_on_disk(attachment, NULL);
    if (attachment->extent.bytes > 0)
        give(&attachment->home, &attachment->extent, 0);
    budget_release(attachment->home.budget, handle_bytes(attachment));
    pthread_mutex_destroy(&attachment->lock);
    free(attachment);
}

/* --- what it takes --- */

static uint64_t memory_bytes(const struct attachment *attachment) {
    return attachment->extent.bytes + handle_bytes(attachment);
}

static struct usage_attachments *usage_of(const struct attachment *attachment) {
    struct usage *usage = attachment->home.usage;
    return attachment->spec.is_batch ? &usage->batches : &usage->attachments;
}

/* Sums wrap around like the counters: subtracting is adding the negative. */
static void count(const struct attachment *attachment, int sign) {
    struct usage_attachments *usage = usage_of(attachment);
    uint64_t times = (uint64_t)(int64_t)sign;
    usage_add(attachment->home.usage, &usage->count, times);
    usage_add(attachment->home.usage, &usage->given_bytes, times * attachment->spec.bytes);
    usage_add(attachment->home.usage, &usage->bytes, times * memory_bytes(attachment));
}

/* With the lock held: it is somewhere else from now on. */
static void put_extent(struct attachment *attachment, struct pool_extent extent) {
    struct usage_attachments *usage = usage_of(attachment);
    uint64_t more = extent.bytes - attachment->extent.bytes;
    if (attachment->owners > 0)
        usage_add(attachment->home.usage, &usage->bytes, more);
    usage_add(attachment->home.usage, &usage->full_bytes, attachment->owners * more);
    attachment->extent = extent;
}

void attachment_own(struct attachment *attachment) {
    attachment_ref(attachment);
    pthread_mutex_lock(&attachment->lock);
    if (attachment->owners++ == 0)
        count(attachment, 1);
    usage_add(attachment->home.usage, &usage_of(attachment)->full_bytes, memory_bytes(attachment));
    pthread_mutex_unlock(&attachment->lock);
}

uint64_t attachment_disown(struct attachment *attachment) {
    uint64_t freed_bytes = 0;
    pthread_mutex_lock(&attachment->lock);
    usage_sub(attachment->home.usage, &usage_of(attachment)->full_bytes, memory_bytes(attachment));
    if (--attachment->owners == 0) {
        count(attachment, -1);
        freed_bytes = memory_bytes(attachment);
    }
    pthread_mutex_unlock(&attachment->lock);
    attachment_unref(attachment);
    return freed_bytes;
}

struct attachment_view attachment_view(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    struct attachment_view view = {.memory_bytes = memory_bytes(attachment),
                                   .in_memory = attachment->extent.bytes > 0,
                                   .disk_bytes =
                                       attachment->disk ? attachment->spec.record_bytes : 0,
                                   .shared = attachment->owners > 1};
    pthread_mutex_unlock(&attachment->lock);
    return view;
}

/* --- making one --- */

static int take_room(const struct attachment_home *home, uint64_t bytes,
                     struct pool_extent *extent) {
    if (pool_take(home->pool, bytes, home->budget, extent) < 0)
        return STORE_FULL;
    if (budget_reserve_bulk(home->budget, extent->bytes - extent->warm_bytes))
        return STORE_OK;
    pool_give(home->pool, extent, 0, home->budget, extent->warm_bytes);
    return STORE_FULL;
}

static uint8_t *memory_of(const struct attachment *attachment) {
    return pool_memory(attachment->home.pool, &attachment->extent);
}

int attachment_provide(struct attachment *attachment) {
    uint64_t header = header_bytes(attachment);
    int status = take_room(&attachment->home, header + attachment->spec.bytes, &attachment->extent);
    if (status != STORE_OK)
        return status;
    attachment->spec.record_bytes = header;
    memset(memory_of(attachment), 0, header);
    return STORE_OK;
}

/* Into less than there are of them: how many, or 0. */
static size_t compress(const void *bytes, size_t count, uint8_t *to, void *workspace) {
    ZSTD_CCtx *context = ZSTD_initStaticCCtx(workspace, PAGE_WORKSPACE_BYTES);
    size_t compressed =
        context ? ZSTD_compressCCtx(context, to, count - 1, bytes, count, COMPRESSION_LEVEL) : 0;
    return ZSTD_isError(compressed) ? 0 : compressed;
}

static uint8_t *entry_of(const struct attachment *attachment, uint32_t piece) {
    return memory_of(attachment) + directory_offset(attachment) + (size_t)piece * ENTRY_BYTES;
}

uint8_t *attachment_memory(const struct attachment *attachment) {
    return memory_of(attachment) + header_bytes(attachment);
}

static void write_entry(struct attachment *attachment, uint32_t piece, size_t written) {
    uint64_t offset = attachment->spec.record_bytes;
    uint8_t *entry = entry_of(attachment, piece);
    bytes_put(entry, offset, 4);
    bytes_put(entry + 4, written, 4);
    bytes_put(entry + 8, record_hash(memory_of(attachment) + offset, written), 8);
    attachment->spec.record_bytes += written;
}

void attachment_note_piece(struct attachment *attachment, uint32_t piece) {
    write_entry(attachment, piece, attachment_piece_bytes(attachment, piece));
}

void attachment_write_piece(struct attachment *attachment, uint32_t piece, const void *bytes,
                            void *workspace) {
    size_t count = attachment_piece_bytes(attachment, piece);
    uint8_t *to = memory_of(attachment) + attachment->spec.record_bytes;
    size_t written = compress(bytes, count, to, workspace);
    if (written == 0) {
        memcpy(to, bytes, count);
        written = count;
    }
    write_entry(attachment, piece, written);
}

static void write_header(const struct attachment *attachment, uint8_t *memory) {
    const struct attachment_spec *spec = &attachment->spec;
    memcpy(memory, magic, MAGIC_BYTES);
    bytes_put(memory + 8, FORMAT, 4);
    bytes_put(memory + 12, header_bytes(attachment), 4);
    bytes_put(memory + 16, spec->record_bytes, 8);
    bytes_put(memory + 24, spec->id, 8);
    bytes_put(memory + 32, spec->bytes, 8);
    bytes_put(memory + 40, spec->tokens, 8);
    bytes_put(memory + 48, spec->name_bytes, 2);
    if (spec->name_bytes > 0)
        memcpy(memory + FIXED_BYTES, spec->name, spec->name_bytes);
    bytes_put(memory + HASH_OFFSET, record_hash(memory, header_bytes(attachment)), 8);
}

void attachment_seal(struct attachment *attachment) {
    uint8_t *memory = memory_of(attachment);
    uint64_t end = attachment->spec.record_bytes, keep = pool_round(end);
    write_header(attachment, memory);
    memset(memory + end, 0, keep - end);
    give(&attachment->home, &attachment->extent, keep);
}

/* --- reading --- */

bool attachment_pin(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    bool is_there = attachment->extent.bytes > 0;
    attachment->pins += is_there;
    pthread_mutex_unlock(&attachment->lock);
    return is_there;
}

void attachment_unpin(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    attachment->pins--;
    pthread_mutex_unlock(&attachment->lock);
}

bool attachment_find_part(const struct attachment *attachment, uint32_t part, const uint8_t **start,
                          size_t *bytes) {
    *start = memory_of(attachment);
    *bytes = header_bytes(attachment);
    if (part == 0)
        return true;
    const uint8_t *entry = entry_of(attachment, part - 1);
    uint64_t offset = bytes_get(entry, 4), count = bytes_get(entry + 4, 4);
    *start += offset;
    *bytes = (size_t)count;
    return offset >= header_bytes(attachment) && offset <= attachment->spec.record_bytes &&
           count <= attachment->spec.record_bytes - offset &&
           count <= attachment_piece_bytes(attachment, part - 1);
}

static bool decompress(const uint8_t *from, size_t from_bytes, void *to, size_t to_bytes,
                       void *workspace) {
    if (from_bytes == to_bytes) {
        memcpy(to, from, to_bytes);
        return true;
    }
    ZSTD_DCtx *context = ZSTD_initStaticDCtx(workspace, PAGE_WORKSPACE_BYTES);
    return context && ZSTD_decompressDCtx(context, to, to_bytes, from, from_bytes) == to_bytes;
}

/* As it was written. */
static bool find_piece(const struct attachment *attachment, uint32_t piece, const uint8_t **from,
                       size_t *bytes) {
    return attachment_find_part(attachment, piece + 1, from, bytes) &&
           record_hash(*from, *bytes) == bytes_get(entry_of(attachment, piece) + 8, 8);
}

static void say_damaged(const struct attachment *attachment, uint32_t piece) {
    log_error("an attachment in the pool is damaged: piece %u of number %llu", piece,
              (unsigned long long)attachment->spec.id);
}

bool attachment_is_whole(const struct attachment *attachment) {
    const uint8_t *from, *next = attachment_memory(attachment);
    size_t bytes = 0;
    for (uint32_t i = 0; i < attachment_pieces(attachment); i++, next += bytes)
        if (!find_piece(attachment, i, &from, &bytes) || from != next ||
            bytes != attachment_piece_bytes(attachment, i)) {
            say_damaged(attachment, i);
            return false;
        }
    return true;
}

int attachment_read_piece(const struct attachment *attachment, uint32_t piece, void *to,
                          void *workspace) {
    const uint8_t *from;
    size_t bytes;
    bool is_right =
        find_piece(attachment, piece, &from, &bytes) &&
        decompress(from, bytes, to, attachment_piece_bytes(attachment, piece), workspace);
    if (!is_right)
        say_damaged(attachment, piece);
    return is_right ? 0 : -1;
}

/* --- between memory and disk --- */

bool attachment_begin_write(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    bool begins = !attachment->writing && !attachment->disk && attachment->extent.bytes > 0;
    attachment->writing |= begins;
    attachment->pins += begins;
    pthread_mutex_unlock(&attachment->lock);
    return begins;
}

void attachment_end_write(struct attachment *attachment, struct disk_tier *disk) {
    pthread_mutex_lock(&attachment->lock);
    attachment->writing = false;
    attachment->pins--;
    attachment_put_on_disk(attachment, disk);
    pthread_mutex_unlock(&attachment->lock);
}

void attachment_put_on_disk(struct attachment *attachment, struct disk_tier *disk) {
    uint64_t bytes = attachment->spec.record_bytes;
    uint64_t more = (disk ? bytes : 0) - (attachment->disk ? bytes : 0);
    usage_add(attachment->home.usage, &usage_of(attachment)->disk_bytes, more);
    attachment->disk = disk;
    charge_release(&attachment->disk_charge);
    if (disk)
        charge_anyway(&attachment->disk_charge, attachment->home.usage->disk_quota, bytes);
}

bool attachment_is_on_disk(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    bool is_there = attachment->disk != NULL;
    pthread_mutex_unlock(&attachment->lock);
    return is_there;
}

uint64_t attachment_drop_bytes(struct attachment *attachment) {
    struct pool_extent extent = {0};
    pthread_mutex_lock(&attachment->lock);
    if (attachment->disk && attachment->pins == 0) {
        extent = attachment->extent;
        put_extent(attachment, (struct pool_extent){0});
    }
    pthread_mutex_unlock(&attachment->lock);
    uint64_t bytes = extent.bytes;
    if (bytes > 0)
        give(&attachment->home, &extent, 0);
    return bytes;
}

int attachment_begin_load(struct attachment *attachment, struct pool_extent *room) {
    int status = STORE_MORE;
    pthread_mutex_lock(&attachment->lock);
    if (attachment->extent.bytes > 0)
        status = STORE_OK;
    else if (attachment->loading)
        status = STORE_WAIT;
    else if (attachment->lost_until_ns > clock_now_ns())
        status = STORE_MISS;
    attachment->loading |= status == STORE_MORE;
    pthread_mutex_unlock(&attachment->lock);
    if (status != STORE_MORE ||
        take_room(&attachment->home, attachment->spec.record_bytes, room) == STORE_OK)
        return status;
    pthread_mutex_lock(&attachment->lock);
    attachment->loading = false;
    pthread_mutex_unlock(&attachment->lock);
    return STORE_FULL;
}

/* Whether a record in that memory is this attachment's; its pieces are checked when they are read.
 */
static bool is_record_of(const struct attachment *attachment, uint8_t *memory) {
    const struct attachment_spec *spec = &attachment->spec;
    size_t header = header_bytes(attachment);
    return spec->record_bytes >= header && memcmp(memory, magic, MAGIC_BYTES) == 0 &&
           bytes_get(memory + 8, 4) == FORMAT && bytes_get(memory + 12, 4) == header &&
           bytes_get(memory + 16, 8) == spec->record_bytes &&
           bytes_get(memory + 24, 8) == spec->id && bytes_get(memory + 32, 8) == spec->bytes &&
           bytes_get(memory + 40, 8) == spec->tokens &&
           bytes_get(memory + 48, 2) == spec->name_bytes &&
           memcmp(memory + FIXED_BYTES, spec->name, spec->name_bytes) == 0 &&
           record_header_is_whole(memory, header, HASH_OFFSET);
}

bool attachment_end_load(struct attachment *attachment, struct pool_extent *room,
                         enum attachment_reading reading) {
    const struct attachment_home *home = &attachment->home;
    bool arrived =
        reading == ATTACHMENT_READ && is_record_of(attachment, pool_memory(home->pool, room));
    uint64_t lost_until_ns =
        reading == ATTACHMENT_DEVICE_FAILED ? clock_now_ns() + RETRY_NS : UINT64_MAX;
    pthread_mutex_lock(&attachment->lock);
    attachment->loading = false;
    attachment->lost_until_ns = arrived ? 0 : lost_until_ns;
    if (arrived)
        put_extent(attachment, *room);
    pthread_mutex_unlock(&attachment->lock);
    if (!arrived)
        give(home, room, 0);
    return arrived;
}

void attachment_leave_on_disk(struct attachment *attachment) {
    pthread_mutex_lock(&attachment->lock);
    attachment_put_on_disk(attachment, NULL);
    pthread_mutex_unlock(&attachment->lock);
}
