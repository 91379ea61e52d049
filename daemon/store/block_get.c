#include "daemon/store/block_get.h"

#include <stdlib.h>
#include <string.h>

int block_get_begin(struct store *store, const struct block_get_request *request,
                    struct block_get **get) {
    uint64_t bytes = sizeof **get + request->key_count * sizeof(struct block_get_key);
    if (!budget_reserve(&store->budget, bytes))
        return STORE_FULL;
    struct block_get *new = calloc(1, bytes);
    if (!new) {
        budget_release(&store->budget, bytes);
        return STORE_FULL;
    }
    new->store = store;
    new->charged_bytes = bytes;
    memcpy(new->model, request->model.text, request->model.bytes);
    new->model_bytes = request->model.bytes;
    new->tenant = request->model.tenant;
    new->geometry = *request->geometry;
    new->wanted = request->fetch;
    new->tokens = request->tokens;
    new->key_count = request->key_count;
    for (size_t i = 0; i < new->key_count; i++) {
        new->keys[i].bytes = (uint8_t)request->keys[i].bytes;
        memcpy(new->keys[i].text, request->keys[i].text, request->keys[i].bytes);
    }
    *get = new;
    return STORE_OK;
}

size_t block_get_piece_bytes_max(const struct block_get *get) {
    struct fetch any = {.geometry = get->geometry,
                        .end = get->tokens,
                        .dtype = get->wanted.dtype ? get->wanted.dtype : get->geometry.dtype};
    return fetch_piece_bytes_max(&any);
}

static struct block_key key_of(const struct block_get *get) {
    const struct block_get_key *wanted = &get->keys[get->next];
    return (struct block_key){.tenant = get->tenant,
                              .model = get->model,
                              .model_bytes = get->model_bytes,
                              .text = wanted->text,
                              .text_bytes = wanted->bytes,
                              .geometry = &get->geometry};
}

/* Begins with the block at hand: STORE_OK, STORE_MISS, STORE_INVALID or STORE_UNSUPPORTED. */
static int begin_next(struct block_get *get) {
    struct block_key key = key_of(get);
    struct block_place place;
    if (block_find(&get->store->blocks, &key, &place) != STORE_OK)
        return STORE_MISS;
    struct fetch_request request = get->wanted;
    request.session = store_name_of(place.session);
    request.first = place.first;
    request.end = place.first + place.tokens;
    int status =
        place.tokens == get->tokens ? fetch_begin(get->store, &request, &get->fetch) : STORE_MISS;
    session_unref(place.session);
    return status;
}

/* Else it was deleted, and perhaps put anew, on the way. */
static bool still_stands(const struct block_get *get) {
    const struct fetch *fetch = &get->fetch;
    struct block_key key = key_of(get);
    struct block_place place;
    if (block_find(&get->store->blocks, &key, &place) != STORE_OK)
        return false;
    bool same = place.session->id == fetch->session_id && place.first == fetch->first;
    session_unref(place.session);
    return same;
}

static void finish(struct block_get *get, bool is_hit) {
    get->is_fetching = false;
    get->keys[get->next++].is_hit = is_hit;
    if (!is_hit)
        return;
    const struct fetch *fetch = &get->fetch;
    get->hits++;
    get->sent_bytes += fetch->sent_bytes;
    for (int i = 0; i < FETCH_LEVELS; i++)
        get->level_tokens[i] += fetch->level_tokens[i];
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        loss_add(&get->loss[part], &fetch->loss[part]);
}

int block_get_next(struct block_get *get, const struct fetch_room *room, void *workspace,
                   struct fetch_piece pieces[GEOMETRY_PARTS], size_t *count) {
    while (get->next < get->key_count) {
        int status = get->is_fetching ? STORE_OK : begin_next(get);
        get->is_fetching = status == STORE_OK;
        uint64_t start = get->next * (uint64_t)get->tokens - get->fetch.first;
        if (status == STORE_OK)
            status = fetch_next(get->store, &get->fetch, room, workspace, pieces, count);
        for (size_t i = 0; status == STORE_MORE && i < *count; i++)
            pieces[i].first += start;
        if (status != STORE_OK && status != STORE_MISS)
            return status;
        finish(get, status == STORE_OK && still_stands(get));
    }
    return STORE_OK;
}

void block_get_end(struct block_get *get) {
    budget_release(&get->store->budget, get->charged_bytes);
    free(get);
}
