#include "daemon/store/fork.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/batches.h"

/* What a session's first tokens take: whole slices, a part of the next, or rows of the tail. */
struct cut {
    size_t slice_count;    /* with the one that is cut */
    uint32_t slice_tokens; /* of the last of them */
    uint32_t tail_tokens;
};

static struct cut cut_at(const struct session *session, uint64_t tokens) {
    struct cut cut = {.slice_count = session->slice_count};
    uint64_t coded = session->tokens - session->tail_tokens;
    if (tokens >= coded) {
        cut.tail_tokens = (uint32_t)(tokens - coded);
    } else {
        const struct slice *slice = tokens > 0 ? session_find_slice(session, tokens - 1) : NULL;
        cut.slice_count = slice ? (size_t)(slice - session->slices) + 1 : 0;
    }
    if (cut.slice_count > 0) {
        const struct slice *last = &session->slices[cut.slice_count - 1];
        uint64_t left = tokens - last->start;
        cut.slice_tokens = left < last->tokens ? (uint32_t)left : last->tokens;
    }
    return cut;
}

/* With the session locked. */
static int check(const struct session *session, uint64_t tokens, uint64_t if_version) {
    if (session->deleted)
        return STORE_MISS;
    if (if_version != 0 && if_version != session->version)
        return STORE_VERSION_CHANGED;
    return tokens > session->tokens ? STORE_MISS : STORE_OK;
}

/* --- fork --- */

static int new_target(struct store *store, const struct session *source,
                      const struct fork_request *request, struct session **target) {
    struct session_names names = {.tenant = source->tenant,
                                  .session = request->target.text,
                                  .session_bytes = request->target.bytes,
                                  .model = source->model,
                                  .model_bytes = source->model_bytes};
    int status = store_admit(store, &names, &source->geometry);
    if (status != STORE_OK)
        return status;
    const struct session_policy policy = {0}; /* share() has it */
    *target = session_new(&names.tenant->memory, &names.tenant->usage, &names, &source->geometry,
                          &policy);
    if (!*target)
        return STORE_FULL;
    (*target)->sharing = source->sharing;
    (*target)->key_summaries = source->key_summaries;
    (*target)->first_position = source->first_position;
    return STORE_OK;
}

/* The keeper may not have brought the source's slices to their level yet. */
static void own_chunks(struct session *session) {
    for (size_t i = 0; i < session->slice_count; i++) {
        struct slice *slice = &session->slices[i];
        int level = session_slice_level(session, slice, session->used_ns);
        if (level > slice->level)
            slice->level = level;
        chunk_own(slice->chunk, slice->level);
    }
}

static void share_tail(const struct session *source, struct session *target, uint32_t tokens) {
    target->tail_tokens = tokens;
    if (tokens == 0)
        return;
    target->tail = source->tail;
    target->coded_tail = source->coded_tail;
    target->coded_tail.tokens = tokens;
    if (target->tail)
        tail_own(target->tail);
    else
        chunk_own(target->coded_tail.chunk, target->coded_tail.level);
}

/* With the source locked. */
static void share(const struct session *source, struct session *target, uint64_t tokens) {
    struct cut cut = cut_at(source, tokens);
    target->policy = source->policy;
    target->durability = source->durability;
    target->tokens = tokens;
    target->slice_count = cut.slice_count;
    for (size_t i = 0; i < cut.slice_count; i++)
        target->slices[i] = source->slices[i];
    if (cut.slice_count > 0)
        target->slices[cut.slice_count - 1].tokens = cut.slice_tokens;
    own_chunks(target);
    share_tail(source, target, cut.tail_tokens);
    prefix_fork(source, target, tokens);
}

static int share_locked(struct session *source, struct session *target,
                        const struct fork_request *request) {
    uint64_t tokens = request->tokens ? request->tokens : source->tokens;
    int status = check(source, tokens, request->if_version);
    if (status == STORE_OK)
        status = session_reserve_slices(target, source->slice_count);
    if (status == STORE_OK)
        status = attachment_set_fork(source, target, tokens);
    if (status == STORE_OK)
        status = batch_set_fork(source, target, tokens);
    if (status != STORE_OK)
        return status;
    share(source, target, tokens);
    session_use(source, true);
    return STORE_OK;
}

static bool is_taken(struct store *store, struct store_name name) {
    struct session *session = store_find(store, name);
    if (session)
        session_unref(session);
    return session != NULL;
}

static int fork_from(struct store *store, struct session *source,
                     const struct fork_request *request, struct session_state *state) {
    struct session *target;
    int status = new_target(store, source, request, &target);
    if (status != STORE_OK)
        return status;
    pthread_mutex_lock(source->lock);
    status = share_locked(source, target, request);
    pthread_mutex_unlock(source->lock);
    if (status == STORE_OK)
        status = store_insert(store, target, state);
    if (status != STORE_OK) {
        keeper_discard(&store->keeper, &session_detach(target)->discard);
        session_unref(target);
    }
    return status;
}

int store_fork(struct store *store, const struct fork_request *request,
               struct session_state *state) {
    if (is_taken(store, request->target))
        return STORE_EXISTS;
    struct session *source = store_find(store, request->session);
    if (!source)
        return STORE_MISS;
    int status = fork_from(store, source, request, state);
    session_unref(source);
    return status;
}

/* --- truncate --- */

/* The slices behind the cut and the tail, if it ends, for steps outside the lock. NULL at the
 * memory limit. */
static struct session_discard *discard_behind(const struct session *session, struct cut cut) {
    size_t count = session->slice_count - cut.slice_count;
    struct session_discard *discard = session_discard_new(session->budget);
    if (!discard)
        return NULL;
    if (count > 0 && session_discard_reserve(discard, count) != STORE_OK) {
        session_discard_free(discard);
        return NULL;
    }
    discard->slice_count = count;
    if (count > 0)
        memcpy(discard->slices, session->slices + cut.slice_count, count * sizeof *discard->slices);
    if (cut.tail_tokens == 0) {
        discard->tail = session->tail;
        discard->coded_tail = session->coded_tail;
    }
    return discard;
}

/* The same at once, which may take long. */
static void drop_behind(const struct session *session, struct cut cut) {
    for (size_t i = cut.slice_count; i < session->slice_count; i++)
        chunk_disown(session->slices[i].chunk, session->slices[i].level);
    if (cut.tail_tokens > 0)
        return;
    if (session->tail)
        tail_disown(session->tail);
    if (session->coded_tail.chunk)
        chunk_disown(session->coded_tail.chunk, session->coded_tail.level);
}

static void keep_before(struct session *session, struct cut cut) {
    session->slice_count = cut.slice_count;
    if (cut.slice_count > 0)
        session->slices[cut.slice_count - 1].tokens = cut.slice_tokens;
    session->coded_tail.tokens = cut.tail_tokens;
    if (cut.tail_tokens == 0) {
        session->tail = NULL;
        session->coded_tail = (struct slice){0};
    } else if (session->tail && session->tail->references == 1) {
        tail_cut(session->tail, cut.tail_tokens); /* else others have the rows, or read them */
    }
}

/* What was put to tokens that are all gone goes, too. */
static void drop_attachments(struct session *session, struct session_discard *discard) {
    struct attachment_set *set = attachment_set_detach(session);
    if (discard)
        discard->attachments = set;
    else
        attachment_set_free(set, session->budget);
}

/* Entries of tokens that are gone go, too. */
static void drop_entries(struct store *store, struct session *session, uint64_t tokens,
                         struct session_discard *discard) {
    struct batch_ref *emptied = batches_cut(store, session, tokens);
    if (discard)
        discard->batches = emptied;
    else
        batch_set_free(emptied, session->budget);
}

/* With the session locked. */
static int truncate_locked(struct store *store, struct session *session,
                           const struct truncate_request *request,
                           struct session_discard **discard) {
    int status = check(session, request->tokens, request->if_version);
    if (status == STORE_OK && session->appending)
        status = STORE_BUSY;
    if (status != STORE_OK)
        return status;
    session_use(session, false);
    session->lost_tokens = 0;
    if (request->tokens == session->tokens && (request->tokens > 0 || session_is_empty(session)))
        return STORE_OK;
    struct cut cut = cut_at(session, request->tokens);
    *discard = discard_behind(session, cut);
    if (!*discard)
        drop_behind(session, cut);
    keep_before(session, cut);
    if (request->tokens == 0)
        drop_attachments(session, *discard);
    drop_entries(store, session, request->tokens, *discard);
    session_note_cut(session, request->tokens);
    session_set_length(session, request->tokens, cut.tail_tokens);
    session->version = store_next_version(store);
    return STORE_OK;
}

int store_truncate(struct store *store, const struct truncate_request *request,
                   struct session_state *state, struct session_discard **discard) {
    struct session *session = store_find(store, request->session);
    *discard = NULL;
    if (!session)
        return STORE_MISS;
    pthread_mutex_lock(session->lock);
    int status = truncate_locked(store, session, request, discard);
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    session_unref(session);
    return status;
}
