#include "daemon/store/takeover_parts.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/store/restore.h"

bool takeover_provide_parts(struct takeover *takeover) {
    const struct takeover_head *head = &takeover->head;
    takeover->chunks = calloc((size_t)head->chunks + 1, sizeof *takeover->chunks);
    takeover->attachments = calloc((size_t)head->attachments + 1, sizeof *takeover->attachments);
    takeover->tails = calloc((size_t)head->tails + 1, sizeof *takeover->tails);
    return takeover->chunks && takeover->attachments && takeover->tails;
}

/* The entry of that id among these; SIZE_MAX: none. */
static size_t find_entry(const uint8_t *entries, size_t count, size_t entry_bytes, uint64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_get(entries + middle * entry_bytes, 8) < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && bytes_get(entries + low * entry_bytes, 8) == id ? low : SIZE_MAX;
}

/* --- chunks --- */

/* One that cannot be had, or is damaged, is none: recall does not find the chunk then. */
static void take_summary(struct takeover *takeover, size_t i, const struct geometry *geometry,
                         struct chunk *chunk) {
    struct store *store = takeover->store;
    struct takeover_chunk said = takeover_read_chunk(takeover_chunk_entry(takeover, i));
    struct key_summary keys = {store->pool, chunk->budget, said.summary, said.summary_bytes};
    if (said.summary_bytes == 0 || said.summary_bytes > said.summary.bytes ||
        !budget_reserve(chunk->budget, said.summary.bytes))
        return;
    takeover->chunks[i].has_summary = true;
    if (key_summary_is_whole(&keys, geometry, chunk->tokens))
        chunk->summary = keys;
    else
        key_summary_deinit(&keys);
}

/* Where it is on disk, too, that is looked at again once the disk has been read. */
static struct chunk *make_chunk(struct takeover *takeover, size_t i,
                                const struct session *session) {
    struct store *store = takeover->store;
    const uint8_t *entry = takeover_chunk_entry(takeover, i);
    struct takeover_chunk said = takeover_read_chunk(entry);
    bool on_disk = said.disk_bytes > 0 && disk_tier_is_on(&store->disk);
    if (said.extent.bytes == 0 && !(on_disk && said.disk_is_current))
        return NULL;
    struct record *record = takeover_read_record(entry, store->pool, session->budget);
    if (!record)
        return NULL;
    takeover->chunks[i].has_record = true;
    struct chunk *chunk = chunk_new(session->budget, session->usage, &session->geometry);
    if (!chunk) {
        record_unpin(record);
        return NULL;
    }
    chunk->id = said.id;
    chunk_complete(chunk, record);
    if (on_disk)
        chunk_put_on_disk(chunk,
                          (struct chunk_on_disk){
                              &store->disk,
                              said.disk_is_current ? record->serial : pool_next_serial(store->pool),
                              said.disk_bytes, said.disk_summary_bytes, record->level});
    take_summary(takeover, i, &session->geometry, chunk);
    return chunk;
}

/* Whether its bytes are a record of this tenant's and model's, and of no more tokens than a page
 * has. What is on disk only is checked when it is loaded. */
static bool is_of(const struct chunk *chunk, const struct session *session) {
    const struct record *record = chunk->record;
    struct record_spec spec;
    if (chunk->tokens > session->page_tokens)
        return false;
    if (record_is_absent(record))
        return true;
    if (record_check_header(record, &session->geometry) < 0)
        return false;
    record_read_spec(record, &spec);
    return spec.model_bytes == session->model_bytes &&
           memcmp(spec.model, session->model, spec.model_bytes) == 0 &&
           spec.tenant_bytes == session->tenant->name_bytes &&
           memcmp(spec.tenant, session->tenant->name, spec.tenant_bytes) == 0;
}

struct chunk *takeover_chunk_of(struct takeover *takeover, const struct session *session,
                                uint64_t id) {
    size_t i = find_entry(takeover_chunk_entry(takeover, 0), takeover->head.chunks,
                          TAKEOVER_CHUNK_BYTES, id);
    if (i == SIZE_MAX)
        return NULL;
    struct taken_chunk *taken = &takeover->chunks[i];
    if (!taken->tried)
        taken->chunk = make_chunk(takeover, i, session);
    taken->tried = true;
    return taken->chunk && is_of(taken->chunk, session) ? taken->chunk : NULL;
}

/* --- tails --- */

/* With as many rows as the longest of the sessions that share it has. */
static struct tail *read_tail(struct takeover *takeover, const struct session *session,
                              const struct takeover_tail *said) {
    struct store *store = takeover->store;
    struct tail *tail;
    uint64_t bytes = said->rows * geometry_token_bytes(&session->geometry);
    if (said->rows >= session->page_tokens || bytes > said->extent.bytes ||
        tail_new(session->budget, session->usage, &session->geometry, said->rows, &tail) !=
            STORE_OK)
        return NULL;
    if (tail_extend(tail, said->rows) == STORE_OK &&
        pool_read(store->pool, &said->extent, tail->rows, bytes) == 0 &&
        record_hash(tail->rows, bytes) == said->hash)
        return tail;
    tail_unref(tail);
    return NULL;
}

struct tail *takeover_tail_of(struct takeover *takeover, const struct session *session,
                              const struct manifest *manifest) {
    struct tail_piece piece = manifest_piece(manifest, 0);
    if (piece.id == 0 || piece.id > takeover->head.tails || manifest->piece_count != 1)
        return NULL;
    struct takeover_tail said = takeover_read_tail(takeover_tail_entry(takeover, piece.id - 1));
    struct taken_tail *taken = &takeover->tails[piece.id - 1];
    if (!taken->tried) {
        taken->tail = read_tail(takeover, session, &said);
        if (taken->tail)
            restore_losses(taken->tail, manifest);
    }
    taken->tried = true;
    return taken->tail && piece.rows <= said.rows &&
                   geometry_equal(&taken->tail->geometry, &session->geometry)
               ? taken->tail
               : NULL;
}

/* --- attachments --- */

/* With its bytes in memory, if there they are. */
static struct attachment *make_attachment(struct takeover *takeover, size_t i,
                                          const struct session *session,
                                          const struct attachment_spec *spec) {
    struct store *store = takeover->store;
    struct attachment_home home = {store->pool, session->budget, session->usage};
    struct takeover_attachment said =
        takeover_read_attachment(takeover_attachment_entry(takeover, i));
    bool is_on_disk = said.is_on_disk && disk_tier_is_on(&store->disk);
    bool fits = said.extent.bytes > 0 ? spec->record_bytes <= said.extent.bytes : is_on_disk;
    struct attachment *attachment = fits ? attachment_new(&home, spec) : NULL;
    if (!attachment)
        return NULL;
    if (said.extent.bytes > 0 && budget_reserve(session->budget, said.extent.bytes)) {
        takeover->attachments[i].has_extent = true;
        (void)attachment_end_load(attachment, &said.extent, ATTACHMENT_READ);
    }
    if (attachment->extent.bytes == 0 && !is_on_disk) {
        attachment_unref(attachment);
        return NULL;
    }
    attachment->lost_until_ns = 0;
    attachment_put_on_disk(attachment, is_on_disk ? &store->disk : NULL);
    return attachment;
}

static bool is_like(const struct attachment *attachment, const struct attachment_spec *spec) {
    return attachment->spec.bytes == spec->bytes &&
           attachment->spec.record_bytes == spec->record_bytes &&
           attachment->spec.is_batch == spec->is_batch &&
           attachment->spec.name_bytes == spec->name_bytes &&
           (spec->is_batch || memcmp(attachment->name, spec->name, spec->name_bytes) == 0);
}

struct attachment *takeover_attachment_of(struct takeover *takeover, const struct session *session,
                                          const struct attachment_spec *spec) {
    size_t i = find_entry(takeover->attachment_entries, takeover->head.attachments,
                          TAKEOVER_ATTACHMENT_BYTES, spec->id);
    if (i == SIZE_MAX)
        return NULL;
    struct taken_attachment *taken = &takeover->attachments[i];
    if (!taken->tried)
        taken->attachment = make_attachment(takeover, i, session, spec);
    taken->tried = true;
    return taken->attachment && is_like(taken->attachment, spec) ? taken->attachment : NULL;
}

/* --- what becomes of them --- */

static void give_back(struct store *store, struct pool_extent extent) {
    pool_give(store->pool, &extent, 0, &store->budget, 0);
}

void takeover_give_back_rest(struct takeover *takeover) {
    struct store *store = takeover->store;
    for (size_t i = 0; i < takeover->head.chunks; i++) {
        struct takeover_chunk chunk = takeover_read_chunk(takeover_chunk_entry(takeover, i));
        if (!takeover->chunks[i].has_record && chunk.extent.bytes > 0)
            give_back(store, chunk.extent);
        if (!takeover->chunks[i].has_summary && chunk.summary.bytes > 0)
            give_back(store, chunk.summary);
    }
    for (size_t i = 0; i < takeover->head.attachments; i++) {
        struct takeover_attachment said =
            takeover_read_attachment(takeover_attachment_entry(takeover, i));
        if (!takeover->attachments[i].has_extent && said.extent.bytes > 0)
            give_back(store, said.extent);
    }
    for (size_t i = 0; i < takeover->head.tails; i++)
        give_back(store, takeover_read_tail(takeover_tail_entry(takeover, i)).extent);
    takeover->index = NULL;
    give_back(store, takeover->note.index);
}

static void let_go_of_chunk(struct chunk *chunk) {
    if (atomic_load(&chunk->references) == 1)
        chunk_leave_on_disk(chunk);
    chunk_unref(chunk);
}

static void let_go_of_attachment(struct attachment *attachment) {
    if (atomic_load(&attachment->references) == 1)
        attachment_leave_on_disk(attachment);
    attachment_unref(attachment);
}

void takeover_free_parts(struct takeover *takeover) {
    for (size_t i = 0; takeover->chunks && i < takeover->head.chunks; i++)
        if (takeover->chunks[i].chunk)
            let_go_of_chunk(takeover->chunks[i].chunk);
    for (size_t i = 0; takeover->attachments && i < takeover->head.attachments; i++)
        if (takeover->attachments[i].attachment)
            let_go_of_attachment(takeover->attachments[i].attachment);
    for (size_t i = 0; takeover->tails && i < takeover->head.tails; i++)
        if (takeover->tails[i].tail)
            tail_unref(takeover->tails[i].tail);
    free(takeover->chunks);
    free(takeover->attachments);
    free(takeover->tails);
    takeover->chunks = NULL;
    takeover->attachments = NULL;
    takeover->tails = NULL;
}
