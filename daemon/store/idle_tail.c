#include "daemon/store/idle_tail.h"

#include "daemon/base/clock.h"
#include "daemon/store/builder.h"
#include "daemon/store/store.h"

/* What could not be coded is not tried again before. */
#define RETRY_NS (1 * CLOCK_NS_PER_S)

/* A tail as it was when its coding began. */
struct job {
    struct store *store;
    struct recoder *recoder;
    struct session *session;
    struct tail *tail; /* owned reference */
    uint64_t first_token;
    uint32_t tokens;
    int level;
    struct chunk *chunk; /* owned reference */
    bool is_new;         /* the chunk, which is in the working space, as is its record */
    uint64_t lent_bytes; /* of that, which are to be given back when the raw rows are */
};

/* What is not promised finer may be as fine as fast8. */
static int bounded_level(const struct session *session, int level) {
    const struct session_policy *policy = &session->policy;
    int own = session_policy_level(policy, session->tokens, session->tokens);
    return own < level || policy->min_snr_db > 0 ? PAGE_EXACT : level;
}

static bool begin(struct job *job, int level) {
    struct session *session = job->session;
    pthread_mutex_lock(session->lock);
    bool begun = !session->deleted && !session->appending && session->tail;
    if (begun) {
        tail_ref(session->tail);
        job->tail = session->tail;
        job->first_token = session->tokens - session->tail_tokens;
        job->tokens = session->tail_tokens;
        job->level = bounded_level(session, level);
    }
    pthread_mutex_unlock(session->lock);
    return begun;
}

static int code_page(const struct job *job, struct builder *builder, uint32_t layer,
                     enum page_part part) {
    struct page_source source = session_source(job->session, job->first_token, job->tokens, part);
    source.level = job->level;
    source.layer = layer;
    source.values = tail_at(job->tail, 0, layer, part);
    source.strides = tail_strides(job->tail, part);
    return builder_put(builder, layer, &source, tail_loss(job->tail, layer, part)->error,
                       job->recoder->workspace);
}

static int code_layers(const struct job *job, struct builder *builder) {
    const struct geometry *geometry = &job->session->geometry;
    int status = STORE_OK;
    for (uint32_t layer = 0; layer < geometry->layers && status == STORE_OK; layer++) {
        if (!job->recoder->go_on(job->recoder->context))
            return STORE_CANCELLED;
        status = code_page(job, builder, layer, PAGE_K);
        if (status == STORE_OK && geometry->head_dim_v > 0)
            status = code_page(job, builder, layer, PAGE_V);
    }
    return status;
}

static int code(const struct job *job) {
    struct builder builder;
    struct record_spec spec = session_spec(job->session, job->first_token, job->tokens, job->level);
    int status = builder_init(&builder, job->store->pool, job->recoder->working_space, &spec);
    if (status != STORE_OK)
        return status;
    status = code_layers(job, &builder);
    if (status == STORE_OK)
        chunk_complete(job->chunk, builder_finish(&builder));
    else
        builder_deinit(&builder);
    return status;
}

/* Forks that have the same rows have the same chunk. */
static int find_or_code(struct job *job) {
    job->chunk = tail_find_coded(job->tail, job->tokens, job->level);
    if (job->chunk)
        return STORE_OK;
    job->chunk =
        chunk_new(job->recoder->working_space, job->session->usage, &job->session->geometry);
    if (!job->chunk)
        return STORE_FULL;
    job->is_new = true;
    int status = code(job);
    if (status != STORE_OK)
        chunk_unref(job->chunk);
    return status;
}

/* Unless the session has changed, its tail is now the chunk; it no longer has the raw one, which
 * leaves so much of its place in the budget to the chunk. STORE_WAIT if somebody reads it. */
static int put_in_place(const struct job *job, uint64_t yielded_bytes, bool *done) {
    struct session *session = job->session;
    pthread_mutex_lock(session->lock);
    bool same = !session->deleted && !session->appending && session->tail == job->tail &&
                session->tail_tokens == job->tokens;
    *done = same && (yielded_bytes == 0 || tail_yield(job->tail, yielded_bytes));
    if (*done) {
        chunk_own(job->chunk, job->level);
        session->coded_tail = (struct slice){.chunk = job->chunk,
                                             .start = job->first_token,
                                             .tokens = job->tokens,
                                             .level = job->level};
        session->tail = NULL;
        session_count_tail(session);
    }
    pthread_mutex_unlock(session->lock);
    return same && !*done ? STORE_WAIT : STORE_OK;
}

static void move_to(const struct job *job, struct record *record, struct budget *budget) {
    record->budget = budget;
    job->chunk->budget = budget;
}

/* Moves the chunk out of the working space: into the place of the raw rows, as far as it goes
 * there, which it does where no other session has them. */
static int move_in_place(struct job *job, struct record *record, bool *done) {
    struct budget *budget = job->session->budget;
    uint64_t bytes = record->reserved_bytes + CHUNK_HANDLE_BYTES, yielded_bytes = 0;
    bool shared;
    uint64_t raw_bytes = tail_bytes(job->tail, &shared);
    if (!shared)
        yielded_bytes = bytes < raw_bytes ? bytes : raw_bytes;
    if (!budget_reserve(budget, bytes - yielded_bytes))
        return STORE_FULL;
    move_to(job, record, budget);
    int status = put_in_place(job, yielded_bytes, done);
    if (*done) {
        job->lent_bytes = bytes;
    } else {
        move_to(job, record, job->recoder->working_space);
        budget_release(budget, bytes - yielded_bytes);
    }
    return status;
}

/* Where it saves nothing it is coded for a disk's sake, which takes no raw rows. */
static bool is_of_use(const struct job *job, const struct recode_result *bytes) {
    return bytes->bytes_after < bytes->bytes_before || disk_tier_is_on(&job->store->disk);
}

static int replace_pinned(struct job *job, struct record *record, struct recode_result *result) {
    bool shared, done;
    struct recode_result bytes = {.bytes_before = tail_bytes(job->tail, &shared),
                                  .bytes_after = record->reserved_bytes + CHUNK_HANDLE_BYTES};
    if (!is_of_use(job, &bytes))
        return STORE_UNSUPPORTED;
    int status = job->is_new ? move_in_place(job, record, &done) : put_in_place(job, 0, &done);
    if (status != STORE_OK || !done)
        return status;
    tail_note_coded(job->tail, job->chunk, job->level);
    tail_disown(job->tail);
    *result = bytes;
    return STORE_OK;
}

/* Raw rows that others have, too, become free with the last of them, to whom the chunk is noted. */
static int replace(struct job *job, struct recode_result *result) {
    struct record *record = chunk_pin(job->chunk); /* the disk may take a fork's meanwhile */
    int status = replace_pinned(job, record, result);
    record_unpin(record);
    return status;
}

/* Where it saves nothing, when the tail has changed. */
static void set_retry(struct session *session, int status) {
    pthread_mutex_lock(session->lock);
    session->tail_retry_ns = status == STORE_UNSUPPORTED ? UINT64_MAX : clock_now_ns() + RETRY_NS;
    pthread_mutex_unlock(session->lock);
}

void idle_tail_code(struct store *store, struct session *session, int level,
                    struct recode_result *result) {
    struct job job = {.store = store, .recoder = &store->keeper.recoder, .session = session};
    *result = (struct recode_result){0};
    if (!begin(&job, level))
        return;
    int status = find_or_code(&job);
    if (status == STORE_OK) {
        status = replace(&job, result);
        chunk_unref(job.chunk);
    }
    tail_unref(job.tail);
    budget_release(job.recoder->working_space, job.lent_bytes);
    if (status != STORE_OK)
        set_retry(session, status);
}
