#include "daemon/store/ageing.h"

#include "daemon/base/clock.h"
#include "daemon/store/idle_tail.h"
#include "daemon/store/store.h"

void ageing_init(struct ageing *ageing, struct store *store) {
    *ageing = (struct ageing){.store = store, .tail_level = PAGE_EXACT};
    due_init(&ageing->due);
}

void ageing_deinit(struct ageing *ageing) {
    if (ageing->work.session)
        session_unref(ageing->work.session);
    due_deinit(&ageing->due);
}

/* Times are far below what overflows: messages and options bound them. */
static uint64_t after(uint64_t start_ns, uint64_t times, uint64_t ms) {
    uint64_t span_ns;
    if (__builtin_mul_overflow(ms * CLOCK_NS_PER_MS, times, &span_ns) ||
        span_ns > DUE_NEVER - start_ns)
        return DUE_NEVER;
    return start_ns + span_ns;
}

static int finest_level(const struct session_policy *policy) {
    return policy->newest_tokens > 0 ? policy->newest_level : policy->level;
}

/* When the next idle step is due that has not been taken. */
static uint64_t step_due_ns(const struct session *session) {
    const struct session_policy *policy = &session->policy;
    uint64_t taken = 0;
    if (policy->idle_step_ms == 0 || session->slice_count == 0)
        return DUE_NEVER;
    if (session->aged_ns >= session->used_ns)
        taken = (session->aged_ns - session->used_ns) / CLOCK_NS_PER_MS / policy->idle_step_ms;
    if (taken >= USAGE_LEVELS || finest_level(policy) + (int)taken >= policy->floor)
        return DUE_NEVER;
    return after(session->used_ns, taken + 1, policy->idle_step_ms);
}

/* When it is to be deleted. An append under way is a use. */
static uint64_t expiry_ns(const struct session *session) {
    if (session->policy.ttl_ms == 0 || session->appending)
        return DUE_NEVER;
    uint64_t expiry_ns = after(session->used_ns, 1, session->policy.ttl_ms);
    return expiry_ns > session->pinned_until_ns ? expiry_ns : session->pinned_until_ns;
}

/* When its tail is to be coded. */
static uint64_t tail_due_ns(struct ageing *ageing, const struct session *session) {
    uint64_t idle_ms = atomic_load(&ageing->tail_idle_ms);
    if (idle_ms == 0 || !session->tail || session->appending)
        return DUE_NEVER;
    uint64_t due_ns = after(session->used_ns, 1, idle_ms);
    return due_ns > session->tail_retry_ns ? due_ns : session->tail_retry_ns;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void ageing_schedule(struct ageing *ageing, struct session *session) {
    uint64_t due_ns = least(step_due_ns(session), expiry_ns(session));
    if (due_set(&ageing->due, session, least(due_ns, tail_due_ns(ageing, session))))
        keeper_poke(&ageing->store->keeper);
}

static void schedule_list(struct ageing *ageing, struct list *list) {
    struct session *session = list_after(list, 0);
    for (; session; session = list_next(list, session)) {
        pthread_mutex_lock(session->lock);
        if (!session->deleted)
            ageing_schedule(ageing, session);
        pthread_mutex_unlock(session->lock);
    }
}

static void schedule_all(struct ageing *ageing) {
    schedule_list(ageing, &ageing->store->list);
    schedule_list(ageing, &ageing->store->chains);
}

void ageing_set_tails(struct ageing *ageing, uint64_t idle_ms, int level) {
    atomic_store(&ageing->tail_level, level);
    if (atomic_exchange(&ageing->tail_idle_ms, idle_ms) != idle_ms)
        schedule_all(ageing);
}

int ageing_tail_level(const struct ageing *ageing, uint64_t idle_for_ns) {
    uint64_t idle_ms = atomic_load(&ageing->tail_idle_ms);
    bool is_due = idle_ms > 0 && idle_for_ns / CLOCK_NS_PER_MS >= idle_ms;
    return is_due ? atomic_load(&ageing->tail_level) : PAGE_EXACT;
}

void ageing_forget(struct ageing *ageing, struct session *session) {
    due_set(&ageing->due, session, DUE_NEVER);
}

static bool has_expired(struct session *session, uint64_t now_ns, uint64_t *ttl_ms) {
    pthread_mutex_lock(session->lock);
    bool expired = !session->deleted && expiry_ns(session) <= now_ns;
    *ttl_ms = session->policy.ttl_ms;
    pthread_mutex_unlock(session->lock);
    return expired;
}

static bool is_tail_due(struct ageing *ageing, struct session *session, uint64_t now_ns) {
    pthread_mutex_lock(session->lock);
    bool is_due = !session->deleted && tail_due_ns(ageing, session) <= now_ns;
    pthread_mutex_unlock(session->lock);
    return is_due;
}

static void code_tail(struct ageing *ageing, struct session *session) {
    struct recode_result result;
    idle_tail_code(ageing->store, session, atomic_load(&ageing->tail_level), &result);
    atomic_fetch_add(&ageing->counts.coded_tails, result.bytes_before > 0);
    atomic_fetch_add(&ageing->counts.tail_bytes_before, result.bytes_before);
    atomic_fetch_add(&ageing->counts.tail_bytes_after, result.bytes_after);
}

/* Unless it is used or pinned just now. */
static void expire(struct ageing *ageing, struct session *session, uint64_t ttl_ms) {
    struct session_discard *discard;
    const struct session_filter filter = {.idle_ms = ttl_ms};
    if (store_delete_session(ageing->store, session, &filter, &discard) != STORE_OK)
        return;
    keeper_discard(&ageing->store->keeper, &discard->discard);
    atomic_fetch_add(&ageing->counts.expired_sessions, 1);
}

/* What was due of the session is done. */
static void finish(struct ageing *ageing) {
    struct session *session = ageing->work.session;
    ageing->work = (struct coarsening){0};
    pthread_mutex_lock(session->lock);
    session->aged_ns = ageing->work_ns;
    if (!session->deleted)
        ageing_schedule(ageing, session);
    pthread_mutex_unlock(session->lock);
    session_unref(session);
}

static void recode_next(struct ageing *ageing, struct recoder *recoder,
                        struct recode_result *result) {
    struct coarsening *work = &ageing->work;
    if (!coarsening_find(work)) {
        finish(ageing);
        return;
    }
    struct recode_job job = {work->chunk, &work->session->geometry, work->level};
    *result = recode_chunk(recoder, &job);
    chunk_unref(work->chunk);
    atomic_fetch_add(&ageing->counts.chunks, result->bytes_before > 0);
    atomic_fetch_add(&ageing->counts.bytes_before, result->bytes_before);
    atomic_fetch_add(&ageing->counts.bytes_after, result->bytes_after);
}

/* False if nothing is due. */
static bool begin_next(struct ageing *ageing) {
    uint64_t now_ns = clock_now_ns(), ttl_ms;
    struct session *session = due_take(&ageing->due, now_ns);
    if (!session)
        return false;
    if (has_expired(session, now_ns, &ttl_ms))
        expire(ageing, session, ttl_ms);
    else if (is_tail_due(ageing, session, now_ns))
        code_tail(ageing, session);
    ageing->work = (struct coarsening){.session = session};
    ageing->work_ns = now_ns;
    return true;
}

uint64_t ageing_step(struct ageing *ageing, struct recoder *recoder, struct recode_result *result) {
    *result = (struct recode_result){0};
    if (clock_now_ns() < ageing->rest_until_ns)
        return ageing->rest_until_ns;
    uint64_t begun_ns = clock_thread_ns();
    if (!ageing->work.session && !begin_next(ageing))
        return due_next_ns(&ageing->due);
    recode_next(ageing, recoder, result);
    uint64_t spent_ns = clock_thread_ns() - begun_ns;
    ageing->rest_until_ns = clock_now_ns() + (AGEING_CORE_PART - 1) * spent_ns;
    return ageing->rest_until_ns;
}

void ageing_read_stats(struct ageing *ageing, struct ageing_stats *stats) {
    *stats = (struct ageing_stats){
        .chunks = atomic_load(&ageing->counts.chunks),
        .bytes_before = atomic_load(&ageing->counts.bytes_before),
        .bytes_after = atomic_load(&ageing->counts.bytes_after),
        .expired_sessions = atomic_load(&ageing->counts.expired_sessions),
        .coded_tails = atomic_load(&ageing->counts.coded_tails),
        .tail_bytes_before = atomic_load(&ageing->counts.tail_bytes_before),
        .tail_bytes_after = atomic_load(&ageing->counts.tail_bytes_after),
        .decoded_tails = atomic_load(&ageing->counts.decoded_tails),
    };
}
