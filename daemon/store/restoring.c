#include "daemon/store/restoring.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/restore.h"
#include "daemon/store/restoring_chunk.h"

enum { MANIFEST_BYTES_MAX = 256 << 20 };
#define LOST_TOKENS_MAX (UINT64_C(1) << 48)

struct restoring {
    struct store *store;
    struct tenant *tenant;  /* whose it becomes, and whose memory it takes */
    struct store_name name; /* its text is `text` */
    char text[256];
    bool replace, committed;
    struct manifest manifest;
    uint8_t *manifest_bytes; /* owned, and in the budget */
    size_t manifest_count;
    struct session *session;      /* owned reference; in no shard before the commit */
    struct restoring_chunk chunk; /* that is coming */
    struct chunk *waiting;        /* owned reference: one that has come, and may get its keys */
    struct manifest_slice slice;  /* of it */
    uint32_t next_slice;
    struct key_summary keys;       /* that are coming */
    struct attachment *attachment; /* owned reference: that is coming */
    bool sealed;
    struct manifest_batch batch;        /* what it is, if it is one */
    size_t next_attachment, next_batch; /* within the manifest */
    uint8_t *piece;                     /* owned, and in the budget: of an attachment */
    size_t piece_bytes;
    uint32_t next_piece;
    enum dump_kind kind; /* of the part at hand */
    uint64_t bytes, at;
};

int restoring_begin(struct store *store, const struct restoring_request *request,
                    struct restoring **begun) {
    struct session *session = request->replace ? NULL : store_find(store, request->session);
    if (session) {
        session_unref(session);
        return STORE_EXISTS;
    }
    struct restoring *restoring = calloc(1, sizeof *restoring);
    if (!restoring)
        return STORE_FULL;
    restoring->store = store;
    restoring->tenant =
        request->session.tenant ? request->session.tenant : &store->tenants.standard;
    restoring->replace = request->replace;
    memcpy(restoring->text, request->session.text, request->session.bytes);
    restoring->name =
        (struct store_name){restoring->text, request->session.bytes, restoring->tenant};
    *begun = restoring;
    return STORE_OK;
}

static void drop_session(struct restoring *restoring) {
    struct session *session = restoring->session;
    if (!restoring->committed)
        keeper_discard(&restoring->store->keeper, &session_detach(session)->discard);
    session_unref(session);
}

void restoring_end(struct restoring *restoring) {
    struct budget *budget = &restoring->tenant->memory;
    restoring_chunk_drop(&restoring->chunk);
    key_summary_deinit(&restoring->keys);
    if (restoring->waiting)
        chunk_unref(restoring->waiting);
    if (restoring->attachment)
        attachment_unref(restoring->attachment);
    if (restoring->session)
        drop_session(restoring);
    if (restoring->piece)
        budget_release(budget, ATTACHMENT_PIECE_BYTES);
    budget_release(budget, restoring->manifest_count);
    free(restoring->piece);
    free(restoring->manifest_bytes);
    free(restoring);
}

const struct manifest *restoring_manifest(const struct restoring *restoring) {
    return restoring->session ? &restoring->manifest : NULL;
}

struct session *restoring_session(const struct restoring *restoring) {
    return restoring->session;
}

/* --- the manifest --- */

static int begin_manifest(struct restoring *restoring, uint64_t bytes) {
    if (restoring->manifest_bytes || bytes == 0 || bytes > MANIFEST_BYTES_MAX)
        return STORE_INVALID;
    if (!budget_reserve_bulk(&restoring->tenant->memory, bytes))
        return STORE_FULL;
    restoring->manifest_count = (size_t)bytes;
    restoring->manifest_bytes = malloc((size_t)bytes);
    return restoring->manifest_bytes ? STORE_OK : STORE_INVALID;
}

static bool is_loss(const struct loss *loss) {
    return loss->error >= 0 && loss->energy >= 0 && !isinf(loss->error) && !isinf(loss->energy);
}

static bool has_losses(const struct manifest *manifest) {
    bool all = true;
    for (uint32_t layer = 0; layer < manifest->geometry.layers && all; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct loss loss = manifest_tail_loss(manifest, layer, part);
            all &= is_loss(&loss);
        }
    return all;
}

/* Whether a session of a daemon's may be like that. */
static bool may_be(const struct manifest *manifest) {
    return manifest->names.session[0] != SESSION_CHAIN_MARK && manifest->blocks_bytes == 0 &&
           manifest->names.model_bytes > 0 && manifest->lost_tokens <= LOST_TOKENS_MAX &&
           (manifest->tail_level == PAGE_EXACT || has_losses(manifest)) &&
           (!manifest->key_summaries || key_summary_bytes(&manifest->geometry, 1) > 0);
}

/* Its name and whose it is are what was asked for, its numbers new ones. */
static void make_ours(struct restoring *restoring) {
    struct manifest *manifest = &restoring->manifest;
    manifest->session_id = manifest->version = 0;
    manifest->tenant = restoring->tenant->name;
    manifest->tenant_bytes = restoring->tenant->name_bytes;
    manifest->names.session = restoring->name.text;
    manifest->names.session_bytes = restoring->name.bytes;
    if (!disk_tier_is_on(&restoring->store->disk))
        manifest->durability = SESSION_IN_MEMORY;
}

static int end_manifest(struct restoring *restoring) {
    struct store *store = restoring->store;
    struct manifest *manifest = &restoring->manifest;
    if (manifest_read(manifest, restoring->manifest_bytes, restoring->manifest_count) < 0 ||
        !may_be(manifest))
        return STORE_INVALID;
    make_ours(restoring);
    struct session_names names = manifest->names;
    names.tenant = restoring->tenant;
    int status = store_admit(store, &names, &manifest->geometry);
    if (status != STORE_OK)
        return status;
    struct session *session = restore_session(store, manifest);
    if (session && manifest->attachments_bytes > 0 && attachment_set_provide(session) != STORE_OK) {
        session_unref(session);
        session = NULL;
    }
    restoring->session = session;
    if (session)
        charge_release(&session->charge); /* taken at the commit, where it may be refused */
    return session ? STORE_OK : STORE_FULL;
}

/* --- chunks --- */

static bool has_slices(const struct restoring *restoring) {
    return restoring->session && restoring->next_slice == restoring->manifest.slice_count;
}

/* The chunk that came last becomes the session's next slice, or its tail. */
static int settle_chunk(struct restoring *restoring) {
    const struct manifest *manifest = &restoring->manifest;
    struct chunk *chunk = restoring->waiting;
    if (!chunk)
        return STORE_OK;
    bool is_tail = manifest->tail_is_coded && restoring->next_slice == manifest->slice_count;
    bool fits = is_tail ? restore_coded_tail(restoring->session, manifest, chunk)
                        : restore_slice(restoring->session, &restoring->slice, chunk);
    chunk_unref(chunk);
    restoring->waiting = NULL;
    return fits ? STORE_OK : STORE_INVALID;
}

static int begin_chunk(struct restoring *restoring, uint64_t bytes) {
    if (!restoring->session || has_slices(restoring))
        return STORE_INVALID;
    int status = settle_chunk(restoring);
    return status == STORE_OK ? restoring_chunk_begin(&restoring->chunk, restoring->store,
                                                      restoring->session, bytes)
                              : status;
}

static int end_chunk(struct restoring *restoring) {
    struct manifest_slice said = manifest_slice(&restoring->manifest, restoring->next_slice);
    int status = restoring_chunk_finish(&restoring->chunk, &restoring->waiting, &restoring->slice);
    if (status != STORE_OK)
        return status;
    restoring->next_slice++;
    const struct manifest_slice *slice = &restoring->slice;
    return slice->start == said.start && slice->tokens == said.tokens &&
                   slice->level >= PAGE_LEVEL_MIN && slice->level <= PAGE_LEVEL_MAX
               ? STORE_OK
               : STORE_INVALID;
}

static int begin_keys(struct restoring *restoring, uint64_t bytes) {
    const struct chunk *chunk = restoring->waiting;
    if (!chunk || !restoring->session->key_summaries || chunk->summary.bytes > 0 ||
        bytes != key_summary_bytes(&restoring->session->geometry, chunk->tokens))
        return STORE_INVALID;
    return key_summary_init(&restoring->keys, restoring->store->pool, &restoring->tenant->memory,
                            bytes);
}

static int end_keys(struct restoring *restoring) {
    struct key_summary *keys = &restoring->keys;
    if (!key_summary_is_whole(keys, &restoring->session->geometry, restoring->waiting->tokens))
        return STORE_INVALID;
    memset(key_summary_memory(keys) + keys->bytes, 0, (size_t)(keys->extent.bytes - keys->bytes));
    restoring->waiting->summary = *keys;
    *keys = (struct key_summary){0};
    return STORE_OK;
}

/* --- rows of the tail --- */

static int begin_rows(struct restoring *restoring, uint64_t bytes) {
    const struct manifest *manifest = &restoring->manifest;
    struct session *session = restoring->session;
    if (!has_slices(restoring) || manifest->piece_count == 0 || session->tail ||
        manifest->tail_tokens == 0 ||
        bytes != manifest->tail_tokens * (uint64_t)geometry_token_bytes(&session->geometry))
        return STORE_INVALID;
    struct tail *tail;
    int status = settle_chunk(restoring);
    if (status == STORE_OK)
        status = tail_new(session->budget, session->usage, &session->geometry,
                          manifest->tail_tokens, &tail);
    if (status != STORE_OK)
        return status;
    status = tail_extend(tail, manifest->tail_tokens);
    if (status == STORE_OK) {
        tail_own(tail);
        session->tail = tail;
        session->tail_tokens = manifest->tail_tokens;
        session->tokens += manifest->tail_tokens;
    }
    tail_unref(tail);
    return status;
}

/* --- attachments and batches --- */

static int take_piece_room(struct restoring *restoring) {
    if (restoring->piece)
        return STORE_OK;
    if (!budget_reserve(&restoring->tenant->memory, ATTACHMENT_PIECE_BYTES))
        return STORE_FULL;
    restoring->piece = malloc(ATTACHMENT_PIECE_BYTES);
    if (!restoring->piece)
        budget_release(&restoring->tenant->memory, ATTACHMENT_PIECE_BYTES);
    return restoring->piece ? STORE_OK : STORE_FULL;
}

/* One that is like this, with a number of its own and room for its bytes. */
static int make_attachment(struct restoring *restoring, const struct attachment_spec *said,
                           uint32_t numbers) {
    struct store *store = restoring->store;
    struct attachment_home home = {store->pool, &restoring->tenant->memory,
                                   restoring->session->usage};
    struct attachment_spec spec = *said;
    spec.id = usage_next_id(&store->usage, numbers);
    spec.record_bytes = 0;
    struct attachment *attachment = attachment_new(&home, &spec);
    if (!attachment)
        return STORE_FULL;
    if (attachment_provide(attachment) != STORE_OK) {
        attachment_unref(attachment);
        return STORE_FULL;
    }
    restoring->attachment = attachment;
    restoring->sealed = false;
    restoring->piece_bytes = 0;
    restoring->next_piece = 0;
    return STORE_OK;
}

static int begin_attachment(struct restoring *restoring, uint64_t bytes) {
    size_t at = restoring->next_attachment;
    struct attachment_spec spec;
    if (!has_slices(restoring) || restoring->attachment ||
        !manifest_next_attachment(&restoring->manifest, &at, &spec) || spec.bytes != bytes)
        return STORE_INVALID;
    int status = take_piece_room(restoring);
    if (status == STORE_OK)
        status = make_attachment(restoring, &spec, 1);
    if (status == STORE_OK)
        restoring->next_attachment = at;
    return status;
}

static int begin_batch(struct restoring *restoring, uint64_t bytes) {
    size_t at = restoring->next_batch;
    struct manifest_batch *batch = &restoring->batch;
    if (!has_slices(restoring) || restoring->attachment ||
        !manifest_next_batch(&restoring->manifest, &at, batch) || batch->spec.bytes != bytes ||
        bytes < BATCH_HEAD_BYTES)
        return STORE_INVALID;
    int status = make_attachment(restoring, &batch->spec, batch->rows);
    if (status != STORE_OK)
        return status;
    batch->spec.id = restoring->attachment->spec.id;
    restoring->next_batch = at;
    return STORE_OK;
}

static void write_piece(struct restoring *restoring, void *workspace) {
    attachment_write_piece(restoring->attachment, restoring->next_piece++, restoring->piece,
                           workspace);
    restoring->piece_bytes = 0;
}

static void put_attachment(struct restoring *restoring, const uint8_t *bytes, size_t count,
                           void *workspace) {
    while (count > 0) {
        size_t whole = attachment_piece_bytes(restoring->attachment, restoring->next_piece);
        size_t missing = whole - restoring->piece_bytes, taken = count < missing ? count : missing;
        memcpy(restoring->piece + restoring->piece_bytes, bytes, taken);
        restoring->piece_bytes += taken;
        bytes += taken;
        count -= taken;
        if (restoring->piece_bytes == whole)
            write_piece(restoring, workspace);
    }
}

static void let_go_of_attachment(struct restoring *restoring) {
    attachment_unref(restoring->attachment);
    restoring->attachment = NULL;
}

static int end_attachment(struct restoring *restoring) {
    struct attachment *replaced = NULL;
    attachment_seal(restoring->attachment);
    int status = attachment_set_put(restoring->session, restoring->attachment, &replaced);
    if (replaced)
        attachment_disown(replaced);
    let_go_of_attachment(restoring);
    return status == STORE_OK && !replaced ? STORE_OK : STORE_INVALID;
}

static void seal_batch(struct restoring *restoring) {
    struct attachment *batch = restoring->attachment;
    for (uint32_t i = 0; i < attachment_pieces(batch) && !restoring->sealed; i++)
        attachment_note_piece(batch, i);
    if (!restoring->sealed)
        attachment_seal(batch);
    restoring->sealed = true;
}

static bool has_vectors(const struct attachment *batch) {
    struct batch_view view = batch_view(batch);
    for (uint32_t i = 0; i < view.rows; i++)
        if (batch_vector_fault(&view.kind, batch_vector(&view, i)))
            return false;
    return true;
}

static int end_batch(struct restoring *restoring) {
    struct attachment *batch = restoring->attachment;
    seal_batch(restoring);
    if (!batch_is_whole(batch, restoring->batch.rows) || !has_vectors(batch))
        return STORE_INVALID;
    int status = restore_batch(restoring->session, &restoring->batch, batch);
    if (status == STORE_OK)
        let_go_of_attachment(restoring);
    return status == STORE_MISS ? STORE_INVALID : status;
}

/* --- parts --- */

int restoring_part(struct restoring *restoring, enum dump_kind kind, uint64_t bytes) {
    restoring->kind = kind;
    restoring->bytes = bytes;
    restoring->at = 0;
    switch (kind) {
    case DUMP_MANIFEST:
        return begin_manifest(restoring, bytes);
    case DUMP_CHUNK:
        return begin_chunk(restoring, bytes);
    case DUMP_KEYS:
        return begin_keys(restoring, bytes);
    case DUMP_ROWS:
        return begin_rows(restoring, bytes);
    case DUMP_ATTACHMENT:
        return begin_attachment(restoring, bytes);
    case DUMP_BATCH:
        return begin_batch(restoring, bytes);
    default:
        return STORE_INVALID;
    }
}

int restoring_put(struct restoring *restoring, const uint8_t *bytes, size_t count,
                  void *workspace) {
    uint64_t at = restoring->at;
    if (count > restoring->bytes - at)
        return STORE_INVALID;
    restoring->at += count;
    switch (restoring->kind) {
    case DUMP_MANIFEST:
        memcpy(restoring->manifest_bytes + at, bytes, count);
        return STORE_OK;
    case DUMP_CHUNK:
        return restoring_chunk_put(&restoring->chunk, bytes, count);
    case DUMP_KEYS:
        memcpy(key_summary_memory(&restoring->keys) + at, bytes, count);
        return STORE_OK;
    case DUMP_ROWS:
        memcpy(restoring->session->tail->rows + at, bytes, count);
        return STORE_OK;
    case DUMP_ATTACHMENT:
        put_attachment(restoring, bytes, count, workspace);
        return STORE_OK;
    default:
        memcpy(attachment_memory(restoring->attachment) + at, bytes, count);
        return STORE_OK;
    }
}

int restoring_part_end(struct restoring *restoring) {
    switch (restoring->kind) {
    case DUMP_MANIFEST:
        return end_manifest(restoring);
    case DUMP_CHUNK:
        return end_chunk(restoring);
    case DUMP_KEYS:
        return end_keys(restoring);
    case DUMP_ROWS:
        restore_losses(restoring->session->tail, &restoring->manifest);
        return STORE_OK;
    case DUMP_ATTACHMENT:
        return end_attachment(restoring);
    default:
        return end_batch(restoring);
    }
}

/* --- the commit --- */

static bool has_all(const struct restoring *restoring) {
    const struct manifest *manifest = &restoring->manifest;
    return has_slices(restoring) && !restoring->attachment &&
           restoring->session->tokens == manifest->tokens &&
           restoring->next_attachment == manifest->attachments_bytes &&
           restoring->next_batch == manifest->batches_bytes;
}

int restoring_commit(struct restoring *restoring, struct session_state *state,
                     struct session_discard **replaced) {
    struct store *store = restoring->store;
    struct session *session = restoring->session;
    *replaced = NULL;
    int status = session ? settle_chunk(restoring) : STORE_INCOMPLETE;
    if (status != STORE_OK || !has_all(restoring))
        return STORE_INCOMPLETE;
    if (!session->prefix.node)
        restore_ids(store, session, &restoring->manifest);
    (void)batch_set_cut(session, session->tokens);
    batch_set_free(batch_set_take_empty(session), session->budget);
    session_ref(session);
    status = restoring->replace ? store_replace(store, session, state, replaced)
                                : store_insert(store, session, state);
    restoring->committed = status == STORE_OK;
    if (!restoring->committed)
        session_unref(session);
    return status;
}
