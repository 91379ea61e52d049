#include "daemon/store/restoring_chunk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/store/builder.h"
#include "daemon/store/record_disk.h"

/* So much longer than the one that came the new header is at most, for longer names. */
enum { NAMES_BYTES_MAX = 768 };

static uint64_t bound_bytes(const struct session *session) {
    struct record_spec spec = session_spec(session, 0, session->page_tokens, PAGE_EXACT);
    return builder_bound_bytes(&spec);
}

static struct record *record_new(struct store *store, struct budget *budget, uint64_t room_bytes) {
    struct record *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    *record = (struct record){.pins = 1,
                              .pool = store->pool,
                              .budget = budget,
                              .serial = pool_next_serial(store->pool),
                              .level = PAGE_EXACT};
    if (pool_take(store->pool, room_bytes, budget, &record->extent) < 0) {
        free(record);
        return NULL;
    }
    record->reserved_bytes = record->extent.warm_bytes;
    if (!budget_reserve_bulk(budget, record->extent.bytes - record->reserved_bytes)) {
        record_unpin(record);
        return NULL;
    }
    record->reserved_bytes = record->extent.bytes;
    return record;
}

int restoring_chunk_begin(struct restoring_chunk *chunk, struct store *store,
                          const struct session *session, uint64_t bytes) {
    if (bytes < DUMP_SLICE_BYTES + RECORD_FIXED_BYTES ||
        bytes > DUMP_SLICE_BYTES + NAMES_BYTES_MAX + bound_bytes(session))
        return STORE_INVALID;
    *chunk = (struct restoring_chunk){.store = store, .session = session};
    chunk->came_bytes = bytes - DUMP_SLICE_BYTES;
    chunk->record = record_new(store, session->budget, chunk->came_bytes + NAMES_BYTES_MAX);
    return chunk->record ? STORE_OK : STORE_FULL;
}

/* --- its bytes --- */

static uint8_t *memory_of(const struct restoring_chunk *chunk) {
    return record_room(chunk->record);
}

/* The header that came is left out, but for its directory, to which the new one's leads up. */
static int read_fixed(struct restoring_chunk *chunk) {
    const struct session *session = chunk->session;
    struct record *record = chunk->record;
    struct record_outline *outline = &chunk->outline;
    if (record_read_outline(chunk->fixed, &session->geometry, outline) < 0 ||
        outline->bytes != chunk->came_bytes)
        return STORE_INVALID;
    struct record_spec spec =
        session_spec(session, bytes_get(chunk->slice, 8), outline->tokens, outline->level);
    spec.min_snr_db = outline->min_snr_db;
    chunk->header_bytes = record_header_bytes(&spec);
    record->bytes = outline->bytes - outline->header_bytes + chunk->header_bytes;
    record->tokens = outline->tokens;
    record->level_asked = outline->level;
    if (record->bytes > bound_bytes(session))
        return STORE_INVALID;
    memset(memory_of(chunk), 0, (size_t)chunk->header_bytes);
    record_write_header(memory_of(chunk), &spec);
    return STORE_OK;
}

/* What the record that came has at `at` is here in the new one. */
static uint64_t place_of(const struct restoring_chunk *chunk, uint64_t at) {
    return at - chunk->outline.header_bytes + chunk->header_bytes;
}

static bool is_loss(const struct loss *loss) {
    return loss->error >= 0 && loss->energy >= 0 && !isinf(loss->error) && !isinf(loss->energy);
}

static bool is_shape(const struct page_shape *shape, const struct page_shape *wanted) {
    return shape->tokens == wanted->tokens && shape->heads == wanted->heads &&
           shape->head_dim == wanted->head_dim && shape->dtype == wanted->dtype;
}

/* Counts a page that ended behind so many bytes of the record. */
static bool count_page(struct restoring_chunk *chunk, uint32_t layer, enum page_part part,
                       uint64_t from, uint64_t to) {
    struct record *record = chunk->record;
    struct page_shape wanted = geometry_shape(&chunk->session->geometry, part, record->tokens);
    struct record_page page;
    struct page_info info;
    if (wanted.head_dim == 0)
        return true;
    if (record_find_page(record, layer, part, &page) < 0)
        return false;
    uint64_t end = (uint64_t)page.offset + page.bytes;
    if (end <= from || end > to)
        return true;
    if (page_peek(memory_of(chunk) + page.offset, page.bytes, &info) != PAGE_OK ||
        info.part != part || !is_shape(&info.shape, &wanted) ||
        !is_loss(&(struct loss){info.loss.error, info.loss.energy, info.estimated}))
        return false;
    record_count_page(record, &chunk->tally, &info, page.bytes, (double)page.inherited_error);
    return true;
}

static int check_pages(struct restoring_chunk *chunk, uint64_t from, uint64_t to) {
    uint32_t layers = chunk->session->geometry.layers;
    bool right = record_pages_are_whole(chunk->record, from, to);
    for (uint32_t layer = 0; layer < layers && right; layer++)
        right = count_page(chunk, layer, PAGE_K, from, to) &&
                count_page(chunk, layer, PAGE_V, from, to);
    return right ? STORE_OK : STORE_INVALID;
}

/* Behind the fixed bytes: names are left out, the directory and the pages stay. */
static int put_rest(struct restoring_chunk *chunk, const uint8_t *bytes, size_t count) {
    const struct record_outline *outline = &chunk->outline;
    uint64_t from = chunk->at, to = from + count;
    uint64_t kept = from > outline->directory_offset ? from : outline->directory_offset;
    chunk->at = to;
    if (to > kept)
        memcpy(memory_of(chunk) + place_of(chunk, kept), bytes + (kept - from),
               (size_t)(to - kept));
    if (to < outline->header_bytes)
        return STORE_OK;
    if (!chunk->has_directory &&
        record_adopt_directory(chunk->record, &chunk->session->geometry, outline->header_bytes) < 0)
        return STORE_INVALID;
    chunk->has_directory = true;
    uint64_t checked = from > outline->header_bytes ? from : outline->header_bytes;
    return check_pages(chunk, place_of(chunk, checked), place_of(chunk, to));
}

/* Takes of the next bytes what fills something of so many, of which there are `at`. */
static size_t fill(uint8_t *to, size_t whole, size_t at, const uint8_t *bytes, size_t count) {
    size_t missing = whole - at, taken = count < missing ? count : missing;
    memcpy(to + at, bytes, taken);
    return taken;
}

int restoring_chunk_put(struct restoring_chunk *chunk, const uint8_t *bytes, size_t count) {
    size_t taken = fill(chunk->slice, DUMP_SLICE_BYTES, chunk->in_slice, bytes, count);
    chunk->in_slice += (uint32_t)taken;
    bytes += taken;
    count -= taken;
    if (chunk->at < RECORD_FIXED_BYTES && count > 0) {
        taken = fill(chunk->fixed, RECORD_FIXED_BYTES, (size_t)chunk->at, bytes, count);
        chunk->at += taken;
        bytes += taken;
        count -= taken;
        if (chunk->at == RECORD_FIXED_BYTES && read_fixed(chunk) != STORE_OK)
            return STORE_INVALID;
    }
    return count > 0 ? put_rest(chunk, bytes, count) : STORE_OK;
}

/* --- its end --- */

static void seal(struct restoring_chunk *chunk) {
    struct record *record = chunk->record;
    uint64_t kept = pool_round(record->bytes);
    record_seal(memory_of(chunk), record->bytes);
    memset(memory_of(chunk) + record->bytes, 0, (size_t)(kept - record->bytes));
    pool_give(record->pool, &record->extent, kept, record->budget, record->reserved_bytes - kept);
    record->reserved_bytes = kept;
    record_count_end(record, &chunk->tally);
}

int restoring_chunk_finish(struct restoring_chunk *chunk, struct chunk **finished,
                           struct manifest_slice *slice) {
    const struct session *session = chunk->session;
    if (!chunk->has_directory || chunk->tally.pages == 0)
        return STORE_INVALID;
    *finished = chunk_new(session->budget, session->usage, &session->geometry);
    if (!*finished)
        return STORE_FULL;
    seal(chunk);
    chunk_complete(*finished, chunk->record);
    chunk->record = NULL;
    *slice = (struct manifest_slice){.start = bytes_get(chunk->slice, 8),
                                     .first = (uint32_t)bytes_get(chunk->slice + 8, 4),
                                     .tokens = (uint32_t)bytes_get(chunk->slice + 12, 4),
                                     .level = (int8_t)chunk->slice[16]};
    return STORE_OK;
}

void restoring_chunk_drop(struct restoring_chunk *chunk) {
    if (chunk->record)
        record_unpin(chunk->record);
    chunk->record = NULL;
}
