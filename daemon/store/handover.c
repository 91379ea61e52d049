#include "daemon/store/handover.h"

#include <stdlib.h>

#include "daemon/base/array.h"
#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/manifest.h"
#include "daemon/store/store.h"
#include "daemon/store/takeover_index.h"

struct row {
    void *item; /* a chunk, an attachment or a tail */
    uint64_t key;
    uint32_t rows; /* of a tail, that a session has */
    struct takeover_tail tail;
};

/* Grows by doubling; rows become sorted by key, each key once. */
struct table {
    struct row *rows;
    size_t count, capacity;
};

struct handover {
    struct store *store;
    struct session **sessions; /* owned references, ascending by id */
    size_t session_count, session_capacity;
    struct table chunks, attachments, tails;
    uint8_t *at; /* NULL: the bytes are only counted */
    uint64_t bytes;
    uint64_t tokens;
};

static void put_note(struct store *store, enum takeover_state state,
                     const struct pool_extent *index, uint64_t hash) {
    struct takeover_note note = {.layout = TAKEOVER_LAYOUT,
                                 .state = state,
                                 .limit_bytes = atomic_load(&store->budget.limit_bytes),
                                 .index = *index,
                                 .index_hash = hash};
    takeover_write_note(pool_note(store->pool), &note);
}

void handover_begin(struct store *store) {
    put_note(store, TAKEOVER_IN_USE, &(struct pool_extent){0}, 0);
}

/* --- collecting --- */

static bool add(struct table *table, void *item, uint64_t key, uint32_t rows) {
    struct row *grown = array_grow(table->rows, table->count, &table->capacity, sizeof *grown);
    if (!grown)
        return false;
    table->rows = grown;
    table->rows[table->count++] = (struct row){.item = item, .key = key, .rows = rows};
    return true;
}

static int compare(const void *a, const void *b) {
    const struct row *left = a, *right = b;
    return (left->key > right->key) - (left->key < right->key);
}

/* Sorts, and of one key keeps one row, with the most rows that any had. */
static void settle(struct table *table) {
    size_t kept = 0;
    if (table->count == 0)
        return;
    qsort(table->rows, table->count, sizeof *table->rows, compare);
    for (size_t i = 1; i < table->count; i++) {
        struct row *last = &table->rows[kept];
        if (table->rows[i].key != last->key)
            table->rows[++kept] = table->rows[i];
        else if (table->rows[i].rows > last->rows)
            last->rows = table->rows[i].rows;
    }
    table->count = kept + 1;
}

static size_t find(const struct table *table, uint64_t key) {
    const struct row wanted = {.key = key};
    const struct row *row = bsearch(&wanted, table->rows, table->count, sizeof wanted, compare);
    return (size_t)(row - table->rows);
}

static bool has_rows(const struct session *session) {
    return session->tail && session->tail_tokens > 0;
}

static bool collect_session(struct handover *handover, struct session *session) {
    struct table *chunks = &handover->chunks;
    struct chunk *coded = session->coded_tail.chunk, *saved = session->saved.coded_tail;
    bool all = true;
    for (size_t i = 0; i < session->slice_count && all; i++)
        all = add(chunks, session->slices[i].chunk, session->slices[i].chunk->id, 0);
    if (all && coded)
        all = add(chunks, coded, coded->id, 0);
    if (all && saved)
        all = add(chunks, saved, saved->id, 0);
    for (size_t i = 0; i < attachment_set_count(session->attachments) && all; i++)
        all = add(&handover->attachments, session->attachments->attachments[i],
                  session->attachments->attachments[i]->spec.id, 0);
    for (const struct batch_ref *ref = session->batches; ref && all; ref = ref->next)
        all = add(&handover->attachments, ref->batch, ref->batch->spec.id, 0);
    if (all && has_rows(session))
        all = add(&handover->tails, session->tail, (uintptr_t)session->tail, session->tail_tokens);
    handover->tokens += session->tokens;
    return all;
}

/* Sessions come by id, and the chains' ids lie above all others. */
static bool collect_list(struct handover *handover, struct list *list) {
    struct session *session = list_after(list, 0);
    for (; session; session = list_after(list, session->id)) {
        struct session **grown = array_grow(handover->sessions, handover->session_count,
                                            &handover->session_capacity, sizeof(struct session *));
        if (!grown) {
            session_unref(session);
            return false;
        }
        handover->sessions = grown;
        handover->sessions[handover->session_count++] = session;
        if (!collect_session(handover, session))
            return false;
    }
    return true;
}

static bool collect(struct handover *handover) {
    if (!collect_list(handover, &handover->store->list) ||
        !collect_list(handover, &handover->store->chains))
        return false;
    settle(&handover->chunks);
    settle(&handover->attachments);
    settle(&handover->tails);
    return true;
}

/* --- tails --- */

/* What a tail took is given back as soon as its rows are in the pool. */
static bool move_tail(struct store *store, struct row *row) {
    struct tail *tail = row->item;
    struct takeover_tail *moved = &row->tail;
    size_t bytes = row->rows * tail->token_bytes;
    if (pool_take(store->pool, bytes, &store->budget, &moved->extent) < 0)
        return false;
    memcpy(pool_memory(store->pool, &moved->extent), tail->rows, bytes);
    moved->rows = row->rows;
    moved->hash = record_hash(tail->rows, bytes);
    tail_cut(tail, 0);
    return true;
}

static bool move_tails(struct handover *handover) {
    bool all = true;
    for (size_t i = 0; i < handover->tails.count && all; i++)
        all = move_tail(handover->store, &handover->tails.rows[i]);
    return all;
}

/* --- writing, or counting the bytes that it takes --- */

/* Where so many bytes more go, or NULL. */
static uint8_t *place(struct handover *handover, uint64_t bytes) {
    uint8_t *at = handover->at ? handover->at + handover->bytes : NULL;
    handover->bytes += bytes;
    return at;
}

static void put_chunk(struct handover *handover, struct chunk *chunk) {
    uint8_t *to = place(handover, TAKEOVER_CHUNK_BYTES);
    const struct record *record = chunk->record;
    const struct chunk_on_disk *on_disk = &chunk->on_disk;
    struct takeover_chunk said = {
        .id = chunk->id,
        .extent = record->extent,
        .disk_bytes = on_disk->tier && !chunk_is_lost(chunk) ? on_disk->bytes : 0,
        .disk_is_current = on_disk->tier && on_disk->serial == record->serial,
        .disk_summary_bytes = on_disk->summary_bytes,
        .summary = chunk->summary.extent,
        .summary_bytes = chunk->summary.bytes};
    if (to)
        takeover_write_chunk(to, &said, record);
}

static void put_attachment(struct handover *handover, struct attachment *attachment) {
    uint8_t *to = place(handover, TAKEOVER_ATTACHMENT_BYTES);
    struct takeover_attachment said = {.id = attachment->spec.id,
                                       .extent = attachment->extent,
                                       .is_on_disk = attachment_is_on_disk(attachment)};
    if (to)
        takeover_write_attachment(to, &said);
}

static void put_piece(struct handover *handover, const struct tail_piece *piece) {
    uint8_t *to = place(handover, TAKEOVER_PIECE_BYTES);
    if (!to)
        return;
    bytes_put(to, piece->id, 8);
    bytes_put(to + 8, piece->rows, 4);
}

static void put_manifest(struct handover *handover, const struct session *session,
                         uint32_t *bytes) {
    struct tail_piece piece = {.rows = session->tail_tokens};
    size_t pieces = has_rows(session) ? 1 : 0;
    *bytes = (uint32_t)manifest_bytes(session, pieces);
    uint8_t *to = place(handover, *bytes);
    if (!to)
        return;
    if (has_rows(session))
        piece.id = find(&handover->tails, (uintptr_t)session->tail) + 1;
    manifest_write(session, &piece, pieces, to);
}

static struct takeover_session describe(const struct session *session) {
    const struct coldness_link *link = &session->coldness[COLDNESS_OF_ALL];
    const struct session_saved *saved = &session->saved;
    return (struct takeover_session){
        .touches = atomic_load(&link->touches) + (link->place == COLDNESS_MAIN),
        .pieces = (uint32_t)saved->piece_count,
        .changes = session->changes,
        .cuts = session->cuts.count,
        .removed_attachments = session->removed_attachments,
        .created_ns = session->created_ns,
        .used_ns = session->used_ns,
        .pinned_until_ns = session->pinned_until_ns,
        .any_saved = saved->any,
        .saved = {.version = saved->point.version,
                  .changes = saved->point.changes,
                  .tokens = saved->tokens,
                  .cuts = saved->cuts,
                  .floor = saved->floor,
                  .removed_attachments = saved->removed_attachments,
                  .used_ns = saved->used_ns,
                  .tail_first = saved->tail_first,
                  .coded_tail = saved->coded_tail ? saved->coded_tail->id : 0},
    };
}

static void put_session(struct handover *handover, struct session *session) {
    struct takeover_session said = describe(session);
    uint8_t *to = place(handover, TAKEOVER_SESSION_BYTES);
    put_manifest(handover, session, &said.manifest_bytes);
    for (size_t i = 0; i < session->saved.piece_count; i++)
        put_piece(handover, &session->saved.pieces[i]);
    if (to)
        takeover_write_session(to, &said);
}

static void put_tail(struct handover *handover, const struct takeover_tail *tail) {
    uint8_t *to = place(handover, TAKEOVER_TAIL_BYTES);
    if (to)
        takeover_write_tail(to, tail);
}

static void put_all(struct handover *handover) {
    struct store *store = handover->store;
    handover->bytes = 0;
    uint8_t *head = place(handover, TAKEOVER_HEAD_BYTES);
    for (size_t i = 0; i < handover->chunks.count; i++)
        put_chunk(handover, handover->chunks.rows[i].item);
    for (size_t i = 0; i < handover->attachments.count; i++)
        put_attachment(handover, handover->attachments.rows[i].item);
    for (size_t i = 0; i < handover->tails.count; i++)
        put_tail(handover, &handover->tails.rows[i].tail);
    for (size_t i = 0; i < handover->session_count; i++)
        put_session(handover, handover->sessions[i]);
    struct takeover_head said = {.bytes = handover->bytes,
                                 .version_clock = atomic_load(&store->version_clock),
                                 .chunk_id_clock = atomic_load(&store->usage.chunk_id_clock),
                                 .session_ids = list_last_id(&store->list),
                                 .chain_ids = list_last_id(&store->chains),
                                 .chunks = (uint32_t)handover->chunks.count,
                                 .attachments = (uint32_t)handover->attachments.count,
                                 .tails = (uint32_t)handover->tails.count,
                                 .sessions = (uint32_t)handover->session_count};
    if (head)
        takeover_write_head(head, &said);
}

/* --- from beginning to end --- */

static bool write_index(struct handover *handover) {
    struct store *store = handover->store;
    struct pool_extent index;
    put_all(handover);
    if (pool_take(store->pool, handover->bytes, &store->budget, &index) < 0)
        return false;
    handover->at = pool_memory(store->pool, &index);
    memset(handover->at, 0, index.bytes);
    put_all(handover);
    put_note(store, TAKEOVER_SAVED, &index, record_hash(handover->at, index.bytes));
    pool_freeze(store->pool); /* for what ends now lets go of all that it has */
    return true;
}

static void handover_free(struct handover *handover) {
    for (size_t i = 0; i < handover->session_count; i++)
        session_unref(handover->sessions[i]);
    free(handover->sessions);
    free(handover->chunks.rows);
    free(handover->attachments.rows);
    free(handover->tails.rows);
}

static void give_up(struct store *store) {
    put_note(store, TAKEOVER_ENDED, &(struct pool_extent){0}, 0);
    log_warning("the pool cannot be handed over: there is no memory to write what is in it");
}

int handover_write(struct store *store) {
    struct handover handover = {.store = store};
    uint64_t begun_ns = clock_now_ns();
    bool done = collect(&handover) && move_tails(&handover) && write_index(&handover);
    if (done)
        log_info("%zu sessions and chains of %llu tokens are ready to be taken over, in %llu ms",
                 handover.session_count, (unsigned long long)handover.tokens,
                 (unsigned long long)(clock_now_ns() - begun_ns) / CLOCK_NS_PER_MS);
    else
        give_up(store);
    handover_free(&handover);
    return done ? 0 : -1;
}
