#include "daemon/store/idle_tail.h"

#include "daemon/store/builder.h"
#include "daemon/store/store.h"

/* A tail as it was when its coding began. */
struct job {
    struct session *session;
    struct tail *tail; /* owned reference */
    uint64_t first_token;
    uint32_t tokens;
    int level;
};

/* What is not promised finer may be as fine as fast8. */
static int bounded_level(const struct session *session, int level) {
    const struct session_policy *policy = &session->policy;
    int own = session_policy_level(policy, session->tokens, session->tokens);
    return own < level || policy->min_snr_db > 0 ? PAGE_EXACT : level;
}

static bool begin(struct session *session, int level, struct job *job) {
    pthread_mutex_lock(session->lock);
    bool begun = !session->deleted && !session->appending && session->tail;
    if (begun) {
        tail_ref(session->tail);
        *job = (struct job){.session = session,
                            .tail = session->tail,
                            .first_token = session->tokens - session->tail_tokens,
                            .tokens = session->tail_tokens,
                            .level = bounded_level(session, level)};
    }
    pthread_mutex_unlock(session->lock);
    return begun;
}

static int code_page(const struct job *job, struct recoder *recoder, struct builder *builder,
                     uint32_t layer, enum page_part part) {
    struct page_source source = session_source(job->session, job->first_token, job->tokens, part);
    source.level = job->level;
    source.layer = layer;
    source.values = tail_at(job->tail, 0, layer, part);
    source.strides = tail_strides(job->tail, part);
    return builder_put(builder, layer, &source, tail_loss(job->tail, layer, part)->error,
                       recoder->workspace);
}

static int code_layers(const struct job *job, struct recoder *recoder, struct builder *builder) {
    const struct geometry *geometry = &job->session->geometry;
    int status = STORE_OK;
    for (uint32_t layer = 0; layer < geometry->layers && status == STORE_OK; layer++) {
        if (!recoder->go_on(recoder->context))
            return STORE_CANCELLED;
        status = code_page(job, recoder, builder, layer, PAGE_K);
        if (status == STORE_OK && geometry->head_dim_v > 0)
            status = code_page(job, recoder, builder, layer, PAGE_V);
    }
    return status;
}

static int code(const struct job *job, struct store *store, struct recoder *recoder,
                struct chunk *chunk) {
    struct builder builder;
    struct record_spec spec = session_spec(job->session, job->first_token, job->tokens, job->level);
    int status = builder_init(&builder, store->pool, &store->budget, &spec);
    if (status != STORE_OK)
        return status;
    status = code_layers(job, recoder, &builder);
    if (status == STORE_OK)
        chunk_complete(chunk, builder_finish(&builder));
    else
        builder_deinit(&builder);
    return status;
}

/* Forks that have the same rows have the same chunk. */
static int find_or_code(const struct job *job, struct store *store, struct recoder *recoder,
                        struct chunk **chunk) {
    *chunk = tail_find_coded(job->tail, job->tokens, job->level);
    if (*chunk)
        return STORE_OK;
    *chunk = chunk_new(&store->budget, &store->usage);
    if (!*chunk)
        return STORE_FULL;
    int status = code(job, store, recoder, *chunk);
    if (status != STORE_OK)
        chunk_unref(*chunk);
    return status;
}

/* Unless the session has changed, its tail is now the chunk; it no longer has the raw one. */
static bool put_in_place(const struct job *job, struct chunk *chunk) {
    struct session *session = job->session;
    pthread_mutex_lock(session->lock);
    bool same = !session->deleted && !session->appending && session->tail == job->tail &&
                session->tail_tokens == job->tokens;
    if (same) {
        chunk_own(chunk, job->level);
        session->coded_tail = (struct slice){
            .chunk = chunk, .start = job->first_token, .tokens = job->tokens, .level = job->level};
        session->tail = NULL;
        session_count_tail(session);
    }
    pthread_mutex_unlock(session->lock);
    return same;
}

static uint64_t bytes_of(struct chunk *chunk) {
    struct record *record = chunk_pin(chunk); /* the disk may take a fork's meanwhile */
    uint64_t bytes = record->reserved_bytes + CHUNK_HANDLE_BYTES;
    record_unpin(record);
    return bytes;
}

/* Raw rows that others have, too, become free with the last of them, to whom the chunk is noted;
 * what is of no use is not kept. */
static int replace(const struct job *job, struct chunk *chunk, struct recode_result *result) {
    bool shared;
    uint64_t before = tail_bytes(job->tail, &shared), after = bytes_of(chunk);
    if (after >= before)
        return STORE_UNSUPPORTED;
    if (put_in_place(job, chunk)) {
        tail_note_coded(job->tail, chunk, job->level);
        tail_disown(job->tail);
        *result = (struct recode_result){before, after};
    }
    return STORE_OK;
}

int idle_tail_code(struct store *store, struct session *session, int level, struct recoder *recoder,
                   struct recode_result *result) {
    struct job job;
    struct chunk *chunk;
    *result = (struct recode_result){0};
    if (!begin(session, level, &job))
        return STORE_OK;
    int status = find_or_code(&job, store, recoder, &chunk);
    if (status == STORE_OK) {
        status = replace(&job, chunk, result);
        chunk_unref(chunk);
    }
    tail_unref(job.tail);
    return status;
}
