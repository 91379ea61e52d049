#include "daemon/store/restore.h"

#include <stdlib.h>

#include "daemon/store/batch_set.h"

struct session *restore_session(struct store *store, const struct manifest *manifest) {
    struct session_names names = manifest->names;
    names.tenant = tenants_find(&store->tenants, manifest->tenant, manifest->tenant_bytes);
    if (!names.tenant || store_admit(store, &names, &manifest->geometry) != STORE_OK)
        return NULL;
    struct session *session = session_new(&names.tenant->memory, &names.tenant->usage, &names,
                                          &manifest->geometry, &manifest->policy);
    if (!session)
        return NULL;
    if (session_reserve_slices(session, manifest->slice_count - manifest->tail_is_coded) !=
        STORE_OK) {
        session_unref(session);
        return NULL;
    }
    if (!session_is_chain(session))
        charge_anyway(&session->charge, &names.tenant->session_count, 1);
    session->id = manifest->session_id;
    session->version = manifest->version;
    session->durability = manifest->durability;
    session->sharing = manifest->sharing;
    session->key_summaries = manifest->key_summaries;
    session->lost_tokens = manifest->lost_tokens;
    return session;
}

/* What has become coarser than the session lets it, for others that had it too when this one did
 * not any more, is not the session's. */
static bool is_as_promised(const struct session *session, const struct manifest_slice *slice,
                           const struct chunk *chunk) {
    int coarsest = slice->level > session->policy.floor ? slice->level : session->policy.floor;
    return chunk->record->level <= coarsest;
}

bool restore_slice(struct session *session, const struct manifest_slice *slice,
                   struct chunk *chunk) {
    if (!chunk || slice->first > chunk->tokens || slice->tokens > chunk->tokens - slice->first ||
        !is_as_promised(session, slice, chunk))
        return false;
    chunk_own(chunk, slice->level);
    session->slices[session->slice_count++] = (struct slice){.chunk = chunk,
                                                             .start = slice->start,
                                                             .first = slice->first,
                                                             .tokens = slice->tokens,
                                                             .level = slice->level};
    session->tokens = slice->start + slice->tokens;
    return true;
}

bool restore_coded_tail(struct session *session, const struct manifest *manifest,
                        struct chunk *chunk) {
    struct manifest_slice slice = manifest_slice(manifest, manifest->slice_count - 1);
    if (!chunk || slice.first != 0 || slice.tokens > chunk->tokens ||
        slice.tokens != manifest->tail_tokens)
        return false;
    chunk_own(chunk, slice.level);
    session->coded_tail = (struct slice){
        .chunk = chunk, .start = slice.start, .tokens = slice.tokens, .level = slice.level};
    session->tail_tokens = slice.tokens;
    session->tokens += slice.tokens;
    return true;
}

void restore_losses(struct tail *tail, const struct manifest *manifest) {
    if (manifest->tail_level == PAGE_EXACT)
        return;
    for (uint32_t layer = 0; layer < tail->geometry.layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct loss loss = manifest_tail_loss(manifest, layer, part);
            tail_inherit(tail, layer, part, manifest->tail_level, &loss);
        }
}

void restore_ids(struct store *store, struct session *session, const struct manifest *manifest) {
    struct token_ids text = {.count = manifest->id_count, .salt_count = manifest->salt_count};
    if (text.count == 0)
        return;
    struct salt *salts = malloc(text.salt_count * sizeof *salts + text.count * sizeof *text.ids);
    if (!salts)
        return;
    uint32_t *ids = (uint32_t *)(salts + text.salt_count);
    manifest_read_ids(manifest, salts, ids);
    text.salts = salts;
    text.ids = ids;
    text = token_ids_head(&text, session->tokens);
    if (prefix_extend(&store->prefixes, session, &text) == STORE_OK &&
        session->sharing != SESSION_SHARES_NOTHING)
        prefix_offer(session, 0);
    free(salts);
}

int restore_blocks(struct store *store, struct session *session, const struct manifest *manifest) {
    struct block_entry block;
    int status = STORE_OK;
    size_t at = 0;
    session->first_position = manifest->first_position;
    while (status != STORE_FULL && session_is_chain(session) &&
           manifest_next_block(manifest, &at, &block) &&
           block.first + block.tokens <= session->tokens)
        status = block_restore(&store->blocks, session, &block);
    return status == STORE_FULL ? STORE_FULL : STORE_OK;
}

int restore_batch(struct session *session, const struct manifest_batch *from,
                  struct attachment *batch) {
    if (!batch || !batch_is_whole(batch, from->rows))
        return STORE_MISS;
    struct batch_ref *ref = batch_ref_new(session->budget, batch);
    if (!ref)
        return STORE_FULL;
    restore_clock(&usage_whole(session->usage)->chunk_id_clock, from->spec.id + from->rows);
    for (uint32_t i = 0; i < ref->rows; i++)
        if (from->gone[i / 8] >> i % 8 & 1)
            batch_ref_drop(ref, i);
    batch_set_put(session, ref);
    return STORE_OK;
}

bool restore_left_nothing(const struct session *session, const struct manifest *manifest) {
    return session_is_chain(session) ? !session->newest_block
                                     : session->tokens == 0 && manifest->tokens > 0;
}

void restore_note_missing(struct store *store, struct session *session, uint64_t tokens) {
    (void)batch_set_cut(session, session->tokens);
    batch_set_free(batch_set_take_empty(session), session->budget);
    session->lost_tokens += tokens - session->tokens;
    session->version = store_next_version(store);
    session->saved.cuts = UINT64_MAX;
}

void restore_clock(_Atomic uint64_t *clock, uint64_t number) {
    if (atomic_load(clock) < number)
        atomic_store(clock, number);
}
