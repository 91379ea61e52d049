#include "daemon/store/match.h"

#include <stdlib.h>
#include <string.h>

enum { TRIES = 16 }; /* while sessions are deleted or cut between being found and looked at */

struct match {
    struct store *store;
    uint64_t bytes, tokens, received;
    struct geometry geometry;
    struct prefix_key key;
    char model[256];
    uint32_t *ids;
    size_t salt_count;
    struct salt salts[]; /* then the ids */
};

int match_begin(struct store *store, const struct match_request *request, struct match **match) {
    uint64_t bytes = sizeof **match + request->salt_count * sizeof(struct salt) +
                     request->tokens * sizeof(uint32_t);
    if (!budget_reserve(&store->budget, bytes))
        return STORE_FULL;
    struct match *new = calloc(1, bytes);
    if (!new) {
        budget_release(&store->budget, bytes);
        return STORE_FULL;
    }
    new->store = store;
    new->bytes = bytes;
    new->tokens = request->tokens;
    memcpy(new->model, request->model.text, request->model.bytes);
    new->key = (struct prefix_key){
        .tenant = request->model.tenant, .model = new->model, .model_bytes = request->model.bytes};
    if (request->geometry) {
        new->geometry = *request->geometry;
        new->key.geometry = &new->geometry;
    }
    new->salt_count = request->salt_count;
    if (new->salt_count > 0)
        memcpy(new->salts, request->salts, new->salt_count * sizeof *new->salts);
    new->ids = (uint32_t *)(new->salts + new->salt_count);
    *match = new;
    return STORE_OK;
}

int match_put_ids(struct match *match, uint64_t first, const void *ids, size_t bytes) {
    uint64_t count = bytes / sizeof *match->ids;
    if (bytes % sizeof *match->ids != 0 || count == 0 || first != match->received ||
        count > match->tokens - match->received)
        return STORE_INVALID;
    token_ids_read(ids, count, match->ids + match->received);
    match->received += count;
    return STORE_OK;
}

/* False if the session may not be what it was when it was found: what was cut off may have come
 * back as other tokens. */
static bool read_session(struct session *session, const struct prefix_match *found,
                         struct match_result *result) {
    pthread_mutex_lock(session->lock);
    bool stands = !session->deleted && session->prefix.cuts == found->cuts;
    result->tokens = found->tokens;
    if (stands)
        session_read_state(session, &result->state);
    pthread_mutex_unlock(session->lock);
    memcpy(result->name, session->name, session->name_bytes);
    result->name_bytes = session->name_bytes;
    return stands;
}

int match_find(struct match *match, struct match_result *result) {
    struct token_ids text = {.count = match->tokens,
                             .ids = match->ids,
                             .salts = match->salts,
                             .salt_count = match->salt_count};
    struct prefix_match found;
    struct session *session;
    bool stands = false;
    if (match->received < match->tokens)
        return STORE_INCOMPLETE;
    for (int i = 0; i < TRIES && !stands; i++) {
        session = prefix_match(&match->store->prefixes, &match->key, &text, &found);
        if (!session)
            break;
        stands = read_session(session, &found, result);
        session_unref(session);
    }
    if (!stands)
        result->tokens = 0;
    return STORE_OK;
}

void match_end(struct match *match) {
    budget_release(&match->store->budget, match->bytes);
    free(match);
}
