#include "daemon/store/takeover.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/restore.h"
#include "daemon/store/takeover_parts.h"

/* --- what a session is made of --- */

/* False if one of them cannot be had. */
static bool add_attachments(struct takeover *takeover, struct session *session,
                            const struct manifest *manifest) {
    struct attachment_spec spec;
    bool all = true;
    if (manifest->attachments_bytes > 0 && attachment_set_provide(session) != STORE_OK)
        return false;
    for (size_t at = 0; manifest_next_attachment(manifest, &at, &spec);) {
        struct attachment *replaced = NULL,
                          *attachment = takeover_attachment_of(takeover, session, &spec);
        if (!attachment || attachment_set_put(session, attachment, &replaced) != STORE_OK)
            all = false;
        if (replaced)
            attachment_disown(replaced); /* no manifest of ours has a name twice */
    }
    return all;
}

static bool add_batches(struct takeover *takeover, struct session *session,
                        const struct manifest *manifest) {
    struct manifest_batch batch;
    bool all = true;
    for (size_t at = 0; manifest_next_batch(manifest, &at, &batch);)
        all &= restore_batch(session, &batch,
                             takeover_attachment_of(takeover, session, &batch.spec)) == STORE_OK;
    return all;
}

static bool add_tail(struct takeover *takeover, struct session *session,
                     const struct manifest *manifest) {
    if (manifest->tail_is_coded) {
        struct manifest_slice slice = manifest_slice(manifest, manifest->slice_count - 1);
        return restore_coded_tail(session, manifest,
                                  takeover_chunk_of(takeover, session, slice.chunk_id));
    }
    if (manifest->tail_tokens == 0)
        return true;
    struct tail *tail = takeover_tail_of(takeover, session, manifest);
    if (!tail)
        return false;
    tail_own(tail);
    session->tail = tail;
    session->tail_tokens = manifest->tail_tokens;
    session->tokens += manifest->tail_tokens;
    return true;
}

static bool add_all(struct takeover *takeover, struct session *session,
                    const struct manifest *manifest) {
    for (uint32_t i = 0; i < manifest->slice_count - manifest->tail_is_coded; i++) {
        struct manifest_slice slice = manifest_slice(manifest, i);
        if (!restore_slice(session, &slice, takeover_chunk_of(takeover, session, slice.chunk_id)))
            return false;
    }
    return add_tail(takeover, session, manifest);
}

static void set_saved(struct takeover *takeover, struct session *session,
                      const struct takeover_session *said, const uint8_t *pieces) {
    struct session_saved *saved = &session->saved;
    *saved = (struct session_saved){.any = said->any_saved != 0,
                                    .floor = said->saved.floor,
                                    .point = {said->saved.version, said->saved.changes},
                                    .tokens = said->saved.tokens,
                                    .cuts = said->saved.cuts,
                                    .removed_attachments = said->saved.removed_attachments,
                                    .used_ns = said->saved.used_ns,
                                    .tail_first = said->saved.tail_first};
    if (said->saved.coded_tail != 0)
        saved->coded_tail = takeover_chunk_of(takeover, session, said->saved.coded_tail);
    if (saved->coded_tail)
        chunk_ref(saved->coded_tail);
    else if (said->saved.coded_tail != 0)
        saved->point.version = 0;
    saved->pieces = calloc((size_t)said->pieces + 1, sizeof *saved->pieces);
    for (uint32_t i = 0; saved->pieces && i < said->pieces; i++, pieces += TAKEOVER_PIECE_BYTES)
        saved->pieces[saved->piece_count++] = (struct tail_piece){
            .id = bytes_get(pieces, 8), .rows = (uint32_t)bytes_get(pieces + 8, 4)};
}

static void set_fields(struct takeover *takeover, struct session *session,
                       const struct takeover_session *said, const uint8_t *pieces) {
    uint64_t now_ns = clock_now_ns();
    session->changes = said->changes;
    session->cuts.count = said->cuts;
    session->removed_attachments = said->removed_attachments;
    session->created_ns = said->created_ns < now_ns ? said->created_ns : now_ns;
    session->used_ns = said->used_ns < now_ns ? said->used_ns : now_ns;
    session->pinned_until_ns = said->pinned_until_ns;
    for (uint32_t i = 0; i < said->touches && i < COLDNESS_TOUCHES_MAX; i++)
        coldness_touch(session);
    if (disk_tier_is_on(&takeover->store->disk))
        set_saved(takeover, session, said, pieces);
    else
        session->durability = SESSION_IN_MEMORY;
}

/* NULL if nothing of it can be had. */
static struct session *make_session(struct takeover *takeover, const uint8_t *entry) {
    struct takeover_session said = takeover_read_session(entry);
    const uint8_t *bytes = entry + TAKEOVER_SESSION_BYTES;
    struct manifest manifest;
    if (manifest_read(&manifest, bytes, said.manifest_bytes) < 0)
        return NULL;
    struct session *session = restore_session(takeover->store, &manifest);
    if (!session)
        return NULL;
    set_fields(takeover, session, &said, bytes + said.manifest_bytes);
    bool whole = add_attachments(takeover, session, &manifest);
    whole &= add_batches(takeover, session, &manifest);
    whole &= add_all(takeover, session, &manifest);
    if (restore_blocks(takeover->store, session, &manifest) != STORE_OK ||
        restore_left_nothing(session, &manifest)) {
        session_unref(session);
        return NULL;
    }
    restore_ids(takeover->store, session, &manifest);
    if (whole)
        return session;
    restore_note_missing(takeover->store, session, manifest.tokens);
    takeover->store->taken.cut_sessions++;
    return session;
}

/* Whether an entry lies within what is left, with all that belongs to it. */
static bool fits(const uint8_t *entry, uint64_t left) {
    if (left < TAKEOVER_SESSION_BYTES)
        return false;
    struct takeover_session said = takeover_read_session(entry);
    return takeover_session_bytes(&said) <= left;
}

static void make_sessions(struct takeover *takeover) {
    const uint8_t *entry = takeover->session_entries;
    const uint8_t *end = takeover->index + takeover->head.bytes;
    uint64_t before = 0;
    for (uint32_t i = 0; i < takeover->head.sessions && fits(entry, (uint64_t)(end - entry)); i++) {
        struct session *session = make_session(takeover, entry);
        if (session && session->id > before) {
            before = session->id;
            takeover->sessions[takeover->session_count++] = session;
        } else if (session) {
            session_unref(session);
        } else {
            takeover->store->taken.cut_sessions++;
        }
        struct takeover_session said = takeover_read_session(entry);
        entry += takeover_session_bytes(&said);
    }
}

/* --- from beginning to end --- */

static void insert_sessions(struct takeover *takeover) {
    struct store *store = takeover->store;
    size_t kept = 0;
    for (size_t i = 0; i < takeover->session_count; i++) {
        struct session *session = takeover->sessions[i];
        uint64_t tokens = session->tokens;
        session_ref(session);
        restore_clock(&store->version_clock, session->version);
        if (store_insert(store, session, NULL) != STORE_OK) {
            session_unref(session);
            session_unref(session);
            continue;
        }
        takeover->sessions[kept++] = session;
        store->taken.sessions++;
        store->taken.tokens += tokens;
    }
    takeover->session_count = kept;
}

static void raise_clocks(struct takeover *takeover) {
    struct store *store = takeover->store;
    restore_clock(&store->version_clock, takeover->head.version_clock);
    restore_clock(&store->usage.chunk_id_clock, takeover->head.chunk_id_clock);
    list_raise_ids(&store->list, takeover->head.session_ids);
    list_raise_ids(&store->chains, takeover->head.chain_ids);
}

static void say(const struct takeover *takeover) {
    const struct takeover_report *report = &takeover->store->taken;
    log_info("took over %llu sessions of %llu tokens, in %llu MiB, from the daemon before, in %llu "
             "ms",
             (unsigned long long)report->sessions, (unsigned long long)report->tokens,
             (unsigned long long)report->bytes >> 20,
             (unsigned long long)report->took_ns / CLOCK_NS_PER_MS);
    if (report->cut_sessions > 0)
        log_warning("%llu sessions were shortened or are gone: not all of them could be taken over",
                    (unsigned long long)report->cut_sessions);
}

/* From where sessions are in the store on, what is in the pool changes: then nobody may take it
 * over as the index has it. */
void takeover_run(struct takeover *takeover) {
    struct store *store = takeover->store;
    raise_clocks(takeover);
    make_sessions(takeover);
    takeover->note.state = TAKEOVER_IN_USE;
    takeover->note.attempts = 0;
    takeover_write_note(pool_note(takeover->store->pool), &takeover->note);
    insert_sessions(takeover);
    takeover_give_back_rest(takeover);
    takeover_free_parts(takeover);
    takeover->done = true;
    store->taken.bytes = atomic_load(&store->usage.pages_bytes);
    store->taken.took_ns = clock_now_ns() - takeover->begun_ns;
    say(takeover);
}

static int compare_id(const void *key, const void *member) {
    uint64_t id = *(const uint64_t *)key, other = (*(struct session *const *)member)->id;
    return (id > other) - (id < other);
}

bool takeover_has(const struct takeover *takeover, uint64_t session_id) {
    return takeover->session_count > 0 &&
           bsearch(&session_id, takeover->sessions, takeover->session_count,
                   sizeof(struct session *), compare_id) != NULL;
}

void takeover_free(struct takeover *takeover) {
    if (!takeover)
        return;
    if (!takeover->done) {
        takeover->note.attempts--;
        takeover_write_note(pool_note(takeover->store->pool), &takeover->note);
    }
    for (size_t i = 0; i < takeover->session_count; i++)
        session_unref(takeover->sessions[i]);
    takeover_free_parts(takeover);
    free(takeover->sessions);
    free(takeover);
}
