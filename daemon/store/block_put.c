#include "daemon/store/block_put.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/fork.h"

enum {
    TRIES = 8, /* while others append to, cut or delete the chain that was chosen */
    CHAIN_NAME_BYTES = 32,
};

struct block_put {
    struct store *store;
    struct session *session; /* the chain; a reference */
    struct append_member *append;
    uint64_t first;             /* token of the chain */
    uint32_t tokens, tail_room; /* of the chain's open page, in front of which others stand */
    uint32_t taken_tokens;      /* of the part that is to be repeated */
    bool heads_first, committed;
    size_t key_bytes;
    char key[BLOCK_KEY_BYTES_MAX];
};

/* Where the block is to be appended. */
struct target {
    struct tenant *tenant;
    char name[CHAIN_NAME_BYTES];
    uint64_t tokens;
    uint32_t tail_tokens;
};

static struct store_name name_of(const struct target *target) {
    return (struct store_name){target->name, strlen(target->name), target->tenant};
}

static void name_anew(struct store *store, struct target *target) {
    snprintf(target->name, sizeof target->name, "%c%016llx", SESSION_CHAIN_MARK,
             (unsigned long long)store_next_version(store));
}

/* --- choosing a chain --- */

static bool is_kept_so(const struct session_policy *a, const struct session_policy *b) {
    return a->level == b->level && a->min_snr_db == b->min_snr_db &&
           a->newest_tokens == b->newest_tokens && a->newest_level == b->newest_level &&
           a->floor == b->floor && a->idle_step_ms == b->idle_step_ms && a->ttl_ms == b->ttl_ms;
}

/* Longer ones are sent by whole pages, so they begin one. */
static bool fits_behind(const struct block_put_request *request, uint32_t tail_tokens) {
    return tail_tokens == 0 || request->tokens <= geometry_page_tokens(request->key.geometry);
}

static int open_chain(struct store *store, const struct block_put_request *request,
                      struct target *target) {
    struct session_state state;
    *target = (struct target){.tenant = request->key.tenant};
    name_anew(store, target);
    struct store_open open = {
        .session = name_of(target),
        .model = {request->key.model, request->key.model_bytes, target->tenant},
        .geometry = request->key.geometry,
        .policy = request->policy,
        .first_position = request->first_position,
        .mode = STORE_OPEN_NEW};
    return store_open(store, &open, &state);
}

static int fork_chain(struct store *store, const struct block_place *parent,
                      struct target *target) {
    struct session_state state;
    struct fork_request fork = {.session = store_name_of(parent->session),
                                .tokens = parent->first + parent->tokens};
    name_anew(store, target);
    fork.target = name_of(target);
    int status = store_fork(store, &fork, &state);
    target->tokens = state.tokens;
    target->tail_tokens = state.tail_tokens;
    return status;
}

enum way { EXTEND, FORK, BEGIN_ANEW };

/* What stands behind a cut would find other tokens in its place if the chain grew again. */
static enum way look_at(const struct block_put_request *request, const struct block_place *parent,
                        struct target *target) {
    const struct session *session = parent->session;
    const struct session_policy policy = session_policy_bounded(request->policy);
    pthread_mutex_lock(session->lock);
    bool stands = block_stands(parent) && is_kept_so(&session->policy, &policy);
    uint64_t end = parent->first + parent->tokens, coded = session->tokens - session->tail_tokens;
    bool fits = fits_behind(request, end > coded ? (uint32_t)(end - coded) : 0);
    bool is_last = end == session->tokens && session->cuts.count == 0 && !session->appending;
    *target = (struct target){
        .tenant = session->tenant, .tokens = session->tokens, .tail_tokens = session->tail_tokens};
    snprintf(target->name, sizeof target->name, "%s", session->name);
    pthread_mutex_unlock(session->lock);
    if (!stands || !fits)
        return BEGIN_ANEW;
    return is_last ? EXTEND : FORK;
}

static int choose_chain(struct store *store, const struct block_put_request *request,
                        struct target *target) {
    struct block_place parent;
    struct block_key key = request->key;
    key.text = request->parent;
    key.text_bytes = request->parent_bytes;
    if (key.text_bytes == 0 || block_find(&store->blocks, &key, &parent) != STORE_OK)
        return open_chain(store, request, target);
    int status = STORE_OK;
    enum way way = look_at(request, &parent, target);
    if (way == FORK)
        status = fork_chain(store, &parent, target);
    session_unref(parent.session);
    return way == BEGIN_ANEW ? open_chain(store, request, target) : status;
}

/* --- beginning --- */

static struct block_key key_of(const struct block_put *put) {
    const struct session *session = put->session;
    return (struct block_key){.tenant = session->tenant,
                              .model = session->model,
                              .model_bytes = session->model_bytes,
                              .text = put->key,
                              .text_bytes = put->key_bytes,
                              .geometry = &session->geometry};
}

static struct block_put *put_new(struct store *store, const struct block_put_request *request) {
    if (!budget_reserve(&store->budget, sizeof(struct block_put)))
        return NULL;
    struct block_put *put = calloc(1, sizeof *put);
    if (!put) {
        budget_release(&store->budget, sizeof *put);
        return NULL;
    }
    put->store = store;
    put->tokens = request->tokens;
    put->heads_first = request->heads_first;
    put->key_bytes = request->key.text_bytes;
    memcpy(put->key, request->key.text, request->key.text_bytes);
    return put;
}

static void put_free(struct block_put *put) {
    budget_release(&put->store->budget, sizeof *put);
    free(put);
}

static int begin_append(struct block_put *put, const struct block_put_request *request,
                        const struct target *target) {
    struct session_state state;
    struct append_request append = {.session = name_of(target),
                                    .first = target->tokens,
                                    .tokens = request->tokens,
                                    .tail_tokens = target->tail_tokens,
                                    .heads_first = request->heads_first,
                                    .runs_max = request->runs_max,
                                    .members = 1};
    int status = append_begin(put->store, &append, &put->append, &state);
    if (status != STORE_OK)
        return status;
    put->session = append_session(put->append);
    session_ref(put->session);
    put->first = target->tokens;
    put->tail_room = geometry_page_tokens(request->key.geometry) - target->tail_tokens;
    return STORE_OK;
}

static int claim(struct block_put *put, const struct block_put_request *request) {
    struct block_place place = {put->session, put->first, put->tokens};
    pthread_mutex_lock(put->session->lock);
    /* It may have been cut since it was looked at, and be as long as it was then. */
    int status = put->session->cuts.count > 0
                     ? STORE_MISS
                     : block_claim(&put->store->blocks, &request->key, &place);
    pthread_mutex_unlock(put->session->lock);
    return status;
}

static void drop_chain(struct store *store, struct store_name name) {
    struct session *session = store_find(store, name);
    if (!session)
        return;
    block_drop_unused(store, session);
    session_unref(session);
}

/* STORE_WAIT: the chain changed meanwhile. */
static int try_once(struct block_put *put, const struct block_put_request *request) {
    struct target target;
    int status = choose_chain(put->store, request, &target);
    if (status == STORE_MISS || status == STORE_EXISTS)
        return STORE_WAIT;
    if (status != STORE_OK)
        return status;
    status = begin_append(put, request, &target);
    if (status != STORE_OK) {
        drop_chain(put->store, name_of(&target));
        bool moved = status == STORE_MISS || status == STORE_BUSY || status == STORE_WRONG_FIRST ||
                     status == STORE_TAIL_MOVED;
        return moved ? STORE_WAIT : status;
    }
    status = claim(put, request);
    if (status == STORE_OK)
        return STORE_OK;
    append_end(put->append);
    block_drop_unused(put->store, put->session);
    session_unref(put->session);
    return status == STORE_MISS ? STORE_WAIT : status;
}

static int refuse(struct store *store, const struct block_key *key) {
    struct block_place place;
    int status = block_find(&store->blocks, key, &place);
    if (status != STORE_OK)
        return status == STORE_BUSY ? STORE_BUSY : STORE_OK;
    pthread_mutex_lock(place.session->lock);
    bool stands = block_stands(&place);
    pthread_mutex_unlock(place.session->lock);
    session_unref(place.session);
    return stands ? STORE_EXISTS : STORE_OK;
}

int block_put_begin(struct store *store, const struct block_put_request *request,
                    struct block_put **put) {
    if (request->tokens == 0)
        return STORE_INVALID;
    int status = refuse(store, &request->key);
    if (status != STORE_OK)
        return status;
    struct block_put *new = put_new(store, request);
    if (!new)
        return STORE_FULL;
    status = STORE_WAIT;
    for (int i = 0; i < TRIES && status == STORE_WAIT; i++)
        status = try_once(new, request);
    if (status == STORE_OK)
        *put = new;
    else
        put_free(new);
    return status == STORE_WAIT ? STORE_BUSY : status;
}

/* --- values --- */

/* Tokens `from` to `end` of a part, as a run of the append. */
static int put_rows(struct block_put *put, const struct append_part *part, uint32_t from,
                    uint32_t end, void *workspace) {
    const struct geometry *geometry = &put->session->geometry;
    size_t row_bytes = geometry_part_bytes(geometry, part->part, 1);
    if (put->heads_first)
        row_bytes /= geometry->heads;
    struct append_part run = {
        .first = put->first + part->first + from,
        .tokens = end - from,
        .layer = part->layer,
        .part = part->part,
        .values = (const char *)part->values + from * row_bytes,
        .bytes = geometry_part_bytes(geometry, part->part, end - from),
        .row_tokens = part->tokens,
    };
    return append_put(put->append, &run, workspace);
}

int block_put_part(struct block_put *put, const struct append_part *part, void *workspace) {
    if (part->first >= put->tokens || part->tokens > put->tokens - part->first ||
        part->bytes != geometry_part_bytes(&put->session->geometry, part->part, part->tokens))
        return STORE_INVALID;
    uint64_t end = part->first + part->tokens;
    bool crosses = part->first < put->tail_room && end > put->tail_room;
    uint32_t half = crosses ? put->tail_room - (uint32_t)part->first : 0;
    if (half > 0 && put->taken_tokens == 0) {
        int status = put_rows(put, part, 0, half, workspace);
        if (status != STORE_OK)
            return status;
        put->taken_tokens = half;
    }
    int status = put_rows(put, part, half, part->tokens, workspace);
    if (status == STORE_OK)
        put->taken_tokens = 0;
    return status;
}

/* --- ending --- */

int block_put_commit(struct block_put *put, void *workspace) {
    struct session_state state;
    struct block_key key = key_of(put);
    if (put->committed)
        return STORE_OK;
    int status = append_commit(put->append, workspace, &state);
    if (status != STORE_OK)
        return status;
    put->committed = true;
    pthread_mutex_lock(put->session->lock);
    block_publish(&put->store->blocks, &key, put->session);
    put->session->changes++;
    pthread_mutex_unlock(put->session->lock);
    return STORE_OK;
}

void block_put_end(struct block_put *put) {
    struct session *session = put->session;
    struct block_key key = key_of(put);
    if (!put->committed) {
        pthread_mutex_lock(session->lock);
        block_unclaim(&put->store->blocks, &key, session);
        pthread_mutex_unlock(session->lock);
    }
    append_end(put->append);
    if (!put->committed)
        block_drop_unused(put->store, session);
    session_unref(session);
    put_free(put);
}
