#include "daemon/store/append.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/builder.h"

struct run {
    uint8_t *arrived; /* a bit a part, allocated with the first */
    uint32_t arrived_count;
    struct builder builder; /* of a run that fills a page */
    struct record *record;  /* the builder's, once finished */
    struct chunk *chunk;    /* the record's, ready to be a slice */
};

struct append {
    struct store *store;
    struct session *session; /* owned reference, with its appending flag */
    uint64_t first, end;
    uint32_t tail_tokens, first_run_tokens, page_tokens;
    uint64_t run_count, charged_bytes;
    bool heads_first, settle, committed;
    struct tail *filling;   /* the session's tail, which the first run fills; owned reference */
    struct tail *remainder; /* the tail that the last run begins; owned */
    uint32_t closing_parts; /* with settle: pages of the tail that are coded */
    struct run runs[];      /* run_count, and one for the tail's own chunk */
};

static uint32_t parts_per_run(const struct append *append) {
    const struct geometry *geometry = &append->session->geometry;
    return geometry->layers * (geometry->head_dim_v > 0 ? 2 : 1);
}

static size_t arrived_bytes(const struct append *append) {
    return ((size_t)append->session->geometry.layers * GEOMETRY_PARTS + 7) / 8;
}

/* Where run number index begins; that of run_count is the append's end. */
static uint64_t run_first(const struct append *append, uint64_t index) {
    if (index == 0)
        return append->first;
    uint64_t first = append->first + append->first_run_tokens + (index - 1) * append->page_tokens;
    return first < append->end ? first : append->end;
}

/* Tokens that stand before the run in its page: the tail's, for the first. */
static uint32_t rows_before(const struct append *append, uint64_t index) {
    return index == 0 ? append->tail_tokens : 0;
}

static uint32_t page_fill(const struct append *append, uint64_t index) {
    uint64_t tokens = run_first(append, index + 1) - run_first(append, index);
    return rows_before(append, index) + (uint32_t)tokens;
}

static bool fills_page(const struct append *append, uint64_t index) {
    return page_fill(append, index) == append->page_tokens;
}

static int landing_level(const struct append *append) {
    int level = append->session->level, landing = append->store->landing_level;
    return append->settle || landing > level ? level : landing;
}

static void count_runs(struct append *append, const struct append_request *request) {
    uint64_t room = append->page_tokens - request->tail_tokens;
    append->first_run_tokens = (uint32_t)(request->tokens < room ? request->tokens : room);
    uint64_t rest = request->tokens - append->first_run_tokens;
    append->run_count = 1 + (rest + append->page_tokens - 1) / append->page_tokens;
}

/* With the session locked: may this append begin? */
static int check(const struct session *session, const struct append_request *request) {
    if (session->deleted)
        return STORE_MISS;
    if (session->appending)
        return STORE_BUSY;
    if (request->first != session->tokens)
        return STORE_WRONG_FIRST;
    if (request->tokens == 0)
        return STORE_INVALID;
    if (request->tokens > UINT64_MAX - request->first)
        return STORE_UNSUPPORTED;
    if (request->tail_tokens != session->tail_tokens)
        return STORE_TAIL_MOVED;
    uint64_t room = session->page_tokens - session->tail_tokens;
    uint64_t rest = request->tokens > room ? request->tokens - room : 0;
    uint64_t runs = 1 + rest / session->page_tokens + (rest % session->page_tokens != 0);
    return runs <= request->runs_max ? STORE_OK : STORE_UNSUPPORTED;
}

static int claim(struct session *session, const struct append_request *request,
                 struct session_state *state) {
    pthread_mutex_lock(session->lock);
    int status = check(session, request);
    if (status == STORE_OK)
        session->appending = true;
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    return status;
}

static void unclaim(struct session *session) {
    pthread_mutex_lock(session->lock);
    session->appending = false;
    pthread_mutex_unlock(session->lock);
}

static struct append *append_new(struct store *store, struct session *session,
                                 const struct append_request *request) {
    uint64_t runs = (request->tokens - 1) / session->page_tokens + 3;
    uint64_t bytes = sizeof(struct append) + runs * sizeof(struct run);
    if (!budget_reserve(&store->budget, bytes))
        return NULL;
    struct append *append = calloc(1, bytes);
    if (!append) {
        budget_release(&store->budget, bytes);
        return NULL;
    }
    append->store = store;
    append->session = session;
    append->charged_bytes = bytes;
    append->first = request->first;
    append->end = request->first + request->tokens;
    append->tail_tokens = request->tail_tokens;
    append->page_tokens = session->page_tokens;
    append->heads_first = request->heads_first;
    append->settle = request->settle;
    count_runs(append, request);
    return append;
}

int append_begin(struct store *store, const struct append_request *request, struct append **append,
                 struct session_state *state) {
    struct session *session = store_find(store, request->session);
    if (!session)
        return STORE_MISS;
    int status = claim(session, request, state);
    if (status != STORE_OK) {
        session_unref(session);
        return status;
    }
    *append = append_new(store, session, request);
    if (!*append) {
        unclaim(session);
        session_unref(session);
        return STORE_FULL;
    }
    return STORE_OK;
}

/* The run that a part is of, or -1 if it is not exactly one of this append's. */
static int64_t find_run(const struct append *append, const struct append_part *part) {
    const struct geometry *geometry = &append->session->geometry;
    if (part->layer >= geometry->layers || geometry_head_dim(geometry, part->part) == 0 ||
        part->first < append->first || part->first >= append->end)
        return -1;
    uint64_t offset = part->first - append->first, index = 0;
    if (offset >= append->first_run_tokens)
        index = 1 + (offset - append->first_run_tokens) / append->page_tokens;
    uint64_t tokens = run_first(append, index + 1) - run_first(append, index);
    if (part->first != run_first(append, index) || part->tokens != tokens ||
        part->bytes != geometry_part_bytes(geometry, part->part, part->tokens))
        return -1;
    return (int64_t)index;
}

static struct record_spec spec_of(const struct append *append, uint64_t first_token,
                                  uint32_t tokens, int level) {
    const struct session *session = append->session;
    return (struct record_spec){
        .tenant = STORE_TENANT,
        .tenant_bytes = strlen(STORE_TENANT),
        .model = session->model,
        .model_bytes = session->model_bytes,
        .session = session->name,
        .session_bytes = session->name_bytes,
        .session_id = session->id,
        .first_token = first_token,
        .tokens = tokens,
        .geometry = &session->geometry,
        .level = level,
    };
}

static int open_builder(struct append *append, struct builder *builder, uint64_t first_token,
                        uint32_t tokens, int level) {
    struct record_spec spec = spec_of(append, first_token, tokens, level);
    return builder_init(builder, append->store->pool, &append->store->budget, &spec);
}

static struct page_strides strides_of(const struct append *append, const struct append_part *part) {
    size_t head_dim = geometry_head_dim(&append->session->geometry, part->part);
    if (append->heads_first)
        return (struct page_strides){.token = head_dim, .head = part->tokens * head_dim};
    return (struct page_strides){.token = append->session->geometry.heads * head_dim,
                                 .head = head_dim};
}

static uint32_t sinks_in(uint64_t first_token, uint32_t tokens) {
    uint64_t left = first_token < PAGE_SINK_TOKENS ? PAGE_SINK_TOKENS - first_token : 0;
    return (uint32_t)(left < tokens ? left : tokens);
}

static struct page_source source_of(const struct append *append, uint64_t first_token,
                                    uint32_t tokens, enum page_part part, int level) {
    return (struct page_source){
        .shape = geometry_shape(&append->session->geometry, part, tokens),
        .part = part,
        .level = level,
        .sink_tokens = sinks_in(first_token, tokens),
    };
}

/* The tail that a run writes to: the session's own, which it fills up, or the append's new one. */
static int tail_for_run(struct append *append, uint64_t index, struct tail **tail) {
    struct session *session = append->session;
    struct tail **slot =
        index == 0 && append->tail_tokens > 0 ? &append->filling : &append->remainder;
    if (!*slot && slot == &append->filling) {
        pthread_mutex_lock(session->lock);
        *slot = session->deleted ? NULL : session->tail;
        if (*slot)
            tail_ref(*slot);
        pthread_mutex_unlock(session->lock);
        if (!*slot)
            return STORE_MISS; /* deleted meanwhile */
    }
    if (!*slot) {
        int status = tail_new(&append->store->budget, &session->geometry, slot);
        if (status != STORE_OK)
            return status;
    }
    *tail = *slot;
    return tail_extend(*tail, page_fill(append, index));
}

static int put_into_tail(struct append *append, uint64_t index, const struct append_part *part) {
    struct tail *tail;
    int status = tail_for_run(append, index, &tail);
    struct tail_block block = {rows_before(append, index), part->tokens, part->layer, part->part};
    if (status == STORE_OK)
        tail_write(tail, &block, part->values, strides_of(append, part));
    return status;
}

/* Codes a page of the run; its values are the part's own or, behind a tail, the tail's rows. */
static int put_into_chunk(struct append *append, uint64_t index, const struct append_part *part,
                          void *workspace) {
    struct run *run = &append->runs[index];
    uint64_t first_token = run_first(append, index) - rows_before(append, index);
    int level = landing_level(append);
    if (!run->builder.record) {
        int status = open_builder(append, &run->builder, first_token, append->page_tokens, level);
        if (status != STORE_OK)
            return status;
    }
    struct page_source source =
        source_of(append, first_token, append->page_tokens, part->part, level);
    if (rows_before(append, index) > 0) {
        source.values = tail_at(append->filling, 0, part->layer, part->part);
        source.strides = tail_strides(append->filling, part->part);
    } else {
        source.values = part->values;
        source.strides = strides_of(append, part);
    }
    return builder_put(&run->builder, part->layer, &source, 0, workspace);
}

int append_put(struct append *append, const struct append_part *part, void *workspace) {
    int64_t found = find_run(append, part);
    if (found < 0)
        return STORE_INVALID;
    uint64_t index = (uint64_t)found;
    struct run *run = &append->runs[index];
    if (!run->arrived && !(run->arrived = calloc(1, arrived_bytes(append))))
        return STORE_FULL;
    size_t bit = (size_t)part->layer * GEOMETRY_PARTS + part->part;
    if (run->arrived[bit / 8] >> (bit % 8) & 1)
        return STORE_INVALID;

    int status = STORE_OK;
    if (rows_before(append, index) > 0 || !fills_page(append, index))
        status = put_into_tail(append, index, part);
    if (status == STORE_OK && fills_page(append, index))
        status = put_into_chunk(append, index, part, workspace);
    if (status != STORE_OK)
        return status;
    run->arrived[bit / 8] |= (uint8_t)(1u << (bit % 8));
    run->arrived_count++;
    return STORE_OK;
}

static bool is_complete(const struct append *append) {
    for (uint64_t i = 0; i < append->run_count; i++)
        if (append->runs[i].arrived_count != parts_per_run(append))
            return false;
    return true;
}

/* The tail that stands behind the last page once this append is committed, and its tokens. */
static struct tail *final_tail(const struct append *append, uint32_t *tokens) {
    uint64_t last = append->run_count - 1;
    *tokens = fills_page(append, last) ? 0 : page_fill(append, last);
    if (*tokens == 0)
        return NULL;
    return rows_before(append, last) > 0 ? append->filling : append->remainder;
}

/* With settle: codes the next page of the tail. STORE_OK when there is none left. */
static int close_tail(struct append *append, void *workspace) {
    uint32_t tokens;
    const struct tail *tail = final_tail(append, &tokens);
    uint32_t parts = parts_per_run(append), per_layer = parts / append->session->geometry.layers;
    if (!tail || append->closing_parts == parts)
        return STORE_OK;
    struct run *closing = &append->runs[append->run_count];
    uint64_t first_token = append->end - tokens;
    int level = append->session->level;
    if (!closing->builder.record) {
        int status = open_builder(append, &closing->builder, first_token, tokens, level);
        if (status != STORE_OK)
            return status;
    }
    uint32_t layer = append->closing_parts / per_layer;
    enum page_part part = append->closing_parts % per_layer;
    struct page_source source = source_of(append, first_token, tokens, part, level);
    source.values = tail_at(tail, 0, layer, part);
    source.strides = tail_strides(tail, part);
    int status = builder_put(&closing->builder, layer, &source, 0, workspace);
    if (status != STORE_OK)
        return status;
    append->closing_parts++;
    return STORE_MORE;
}

/* Turns what was built into chunks. After this the commit cannot fail for lack of memory. */
static int make_chunks(struct append *append) {
    for (uint64_t i = 0; i <= append->run_count; i++) {
        struct run *run = &append->runs[i];
        if (run->builder.record)
            run->record = builder_finish(&run->builder);
        if (run->record && !(run->chunk = chunk_new(&append->store->budget, run->record)))
            return STORE_FULL;
        run->record = NULL; /* its pin is the chunk's now */
    }
    pthread_mutex_lock(append->session->lock);
    int status = append->session->deleted
                     ? STORE_MISS
                     : session_reserve_slices(append->session, append->run_count + 1);
    pthread_mutex_unlock(append->session->lock);
    return status;
}

static void move_chunks(struct append *append) {
    struct session *session = append->session;
    uint64_t start = append->first - append->tail_tokens;
    for (uint64_t i = 0; i <= append->run_count; i++) {
        struct run *run = &append->runs[i];
        if (!run->chunk)
            continue;
        session->slices[session->slice_count++] =
            (struct slice){.chunk = run->chunk, .start = start, .tokens = run->chunk->tokens};
        start += run->chunk->tokens;
        run->chunk = NULL;
    }
}

/* Returns the tail that the session no longer needs, the caller's to drop, or NULL. */
static struct tail *move_tail(struct append *append) {
    struct session *session = append->session;
    uint32_t tokens;
    struct tail *tail = final_tail(append, &tokens), *old = session->tail;
    if (append->settle) {
        session->tail = NULL;
        session->tail_tokens = 0;
        return old;
    }
    session->tail_tokens = tokens;
    if (tail == old)
        return NULL;
    session->tail = tail; /* the remainder, or NULL */
    append->remainder = NULL;
    return old;
}

static int publish(struct append *append, struct session_state *state) {
    struct session *session = append->session;
    struct tail *old = NULL;
    pthread_mutex_lock(session->lock);
    int status = session->deleted ? STORE_MISS : STORE_OK;
    if (status == STORE_OK) {
        move_chunks(append);
        old = move_tail(append);
        session->tokens = append->end;
        session->version = store_next_version(append->store);
        session->appending = false;
        append->committed = true;
    }
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    if (old)
        tail_unref(old);
    return status;
}

int append_commit(struct append *append, void *workspace, struct session_state *state) {
    if (!is_complete(append))
        return STORE_INCOMPLETE;
    int status = append->settle ? close_tail(append, workspace) : STORE_OK;
    if (status == STORE_OK)
        status = make_chunks(append);
    if (status == STORE_OK)
        status = publish(append, state);
    if (status != STORE_OK)
        return status;
    if (landing_level(append) < append->session->level)
        keeper_add(&append->store->keeper, append->session);
    else
        keeper_poke(&append->store->keeper);
    return STORE_OK;
}

bool append_is_settled(const struct append *append) {
    return keeper_is_done_with(&append->store->keeper, append->session);
}

static void run_deinit(struct run *run) {
    builder_deinit(&run->builder);
    if (run->chunk)
        chunk_unref(run->chunk);
    if (run->record)
        record_unpin(run->record);
    free(run->arrived);
}

void append_free(struct append *append) {
    for (uint64_t i = 0; i <= append->run_count; i++)
        run_deinit(&append->runs[i]);
    if (append->filling && !append->committed)
        tail_shrink(append->filling, append->tail_tokens);
    if (append->filling)
        tail_unref(append->filling);
    if (append->remainder)
        tail_unref(append->remainder);
    if (!append->committed)
        unclaim(append->session);
    session_unref(append->session);
    budget_release(&append->store->budget, append->charged_bytes);
    free(append);
}
