#include "daemon/store/session.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/error.h"

static char *copy(const char *text, size_t bytes) {
    char *copied = malloc(bytes + 1);
    if (!copied)
        return NULL;
    memcpy(copied, text, bytes);
    copied[bytes] = 0;
    return copied;
}

uint64_t session_own_bytes(const struct session *session) {
    return sizeof *session + session->name_bytes + session->model_bytes +
           session->slice_capacity * sizeof *session->slices;
}

void session_read_state(const struct session *session, struct session_state *state) {
    *state = (struct session_state){
        .version = session->version,
        .tokens = session->tokens,
        .tail_tokens = session->tail_tokens,
        .page_tokens = session->page_tokens,
        .level = session->level,
        .geometry = session->geometry,
        .model_bytes = session->model_bytes,
    };
    memcpy(state->model, session->model, session->model_bytes);
}

struct session *session_new(struct budget *budget, const char *name, size_t name_bytes,
                            const char *model, size_t model_bytes,
                            const struct geometry *geometry) {
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->name_bytes = name_bytes;
    session->model_bytes = model_bytes;
    session->geometry = *geometry;
    session->page_tokens = geometry_page_tokens(geometry);
    session->name = copy(name, name_bytes);
    session->model = copy(model, model_bytes);
    atomic_init(&session->references, 1);
    if (session->name && session->model && budget_reserve(budget, session_own_bytes(session)))
        session->budget = budget;
    if (!session->budget) {
        session_unref(session);
        return NULL;
    }
    return session;
}

void session_ref(struct session *session) {
    atomic_fetch_add(&session->references, 1);
}

void session_unref(struct session *session) {
    if (atomic_fetch_sub(&session->references, 1) > 1)
        return;
    if (session->budget) {
        struct session_contents contents = session_detach(session);
        session_drop(session->budget, &contents);
        budget_release(session->budget, session_own_bytes(session));
    }
    free(session->name);
    free(session->model);
    free(session);
}

int session_reserve_slices(struct session *session, size_t more) {
    size_t need = session->slice_count + more, capacity = session->slice_capacity;
    if (need <= capacity)
        return STORE_OK;
    size_t grown_capacity = need > 2 * capacity ? need : 2 * capacity;
    uint64_t more_bytes = (grown_capacity - capacity) * sizeof *session->slices;
    if (!budget_reserve(session->budget, more_bytes))
        return STORE_FULL;
    struct slice *grown = realloc(session->slices, grown_capacity * sizeof *grown);
    if (!grown) {
        budget_release(session->budget, more_bytes);
        return STORE_FULL;
    }
    session->slices = grown;
    session->slice_capacity = grown_capacity;
    return STORE_OK;
}

struct session_contents session_detach(struct session *session) {
    struct session_contents contents = {.slices = session->slices,
                                        .slice_count = session->slice_count,
                                        .slice_capacity = session->slice_capacity,
                                        .tail = session->tail};
    session->slices = NULL;
    session->slice_count = session->slice_capacity = 0;
    session->tail = NULL;
    session->tail_tokens = 0;
    return contents;
}

void session_drop(struct budget *budget, struct session_contents *contents) {
    for (size_t i = 0; i < contents->slice_count; i++)
        chunk_unref(contents->slices[i].chunk);
    if (contents->tail)
        tail_unref(contents->tail);
    free(contents->slices);
    budget_release(budget, contents->slice_capacity * sizeof *contents->slices);
}

struct slice *session_find_slice(const struct session *session, uint64_t token) {
    size_t low = 0, high = session->slice_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (session->slices[middle].start + session->slices[middle].tokens <= token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < session->slice_count ? &session->slices[low] : NULL;
}
