#include "daemon/store/append.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/store/append_runs.h"
#include "daemon/store/evict.h"

enum { DROP_STEP_RUNS = 64 };

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
    uint32_t tokens, parts = parts_per_run(append);
    const struct tail *tail = final_tail(append, &tokens);
    if (!tail || append->closing_parts == parts)
        return STORE_OK;
    struct run *closing = &append->runs[append->run_count];
    uint64_t first_token = append->end - tokens;
    int level = session_policy_level(&append->policy, append->end, append->end);
    int status = append_open_chunk(append, closing, first_token, tokens, level);
    if (status != STORE_OK)
        return status;
    uint32_t per_layer = parts / append->session->geometry.layers;
    uint32_t layer = append->closing_parts / per_layer;
    enum page_part part = append->closing_parts % per_layer;
    struct page_source source = session_source(append->session, first_token, tokens, part);
    status = append_code_page(append, closing, layer, &source, tail, workspace);
    if (status != STORE_OK)
        return status;
    if (++append->closing_parts == parts)
        append_close_chunk(append, closing);
    return STORE_MORE;
}

/* True if one of them is finer than it is to be. */
static bool add_slices(struct append *append) {
    struct session *session = append->session;
    uint64_t start = append->first - append->tail_tokens;
    bool finer = false;
    for (uint64_t i = 0; i <= append->run_count; i++) {
        struct chunk *chunk = append->runs[i].chunk;
        if (!chunk)
            continue;
        int level = session_policy_level(&session->policy, start + chunk->tokens, append->end);
        finer |= chunk->record->level_asked < level;
        chunk_own(chunk, level);
        session->slices[session->slice_count++] =
            (struct slice){.chunk = chunk, .start = start, .tokens = chunk->tokens, .level = level};
        start += chunk->tokens;
    }
    return finer;
}

/* A tail that a session no longer has: raw, coded, or none. */
struct old_tail {
    struct tail *tail;
    struct slice coded;
};

/* What the session no longer has is the caller's to disown. */
static struct old_tail change_tail(struct append *append, uint32_t *tokens) {
    struct session *session = append->session;
    struct tail *tail = final_tail(append, tokens);
    struct old_tail old = {session->tail, session->coded_tail};
    session->coded_tail = (struct slice){0};
    session->tail_retry_ns = 0;
    if (old.coded.chunk)
        atomic_fetch_add(&append->store->ageing.counts.decoded_tails, 1);
    if (append->settle) {
        tail = NULL;
        *tokens = 0;
    }
    if (tail == old.tail) {
        old.tail = NULL;
        return old;
    }
    if (tail)
        tail_own(tail);
    session->tail = tail;
    return old;
}

/* With the session locked. */
static struct old_tail publish_locked(struct append *append) {
    struct session *session = append->session;
    struct keeper *keeper = &append->store->keeper;
    uint64_t tokens = append->end - append->first;
    uint32_t tail_tokens;
    bool finer = add_slices(append);
    struct old_tail old = change_tail(append, &tail_tokens);
    session_set_length(session, append->end, tail_tokens);
    usage_add(session->usage, &session->usage->appended_tokens, tokens);
    usage_add(session->usage, &session->usage->appended_bytes,
              tokens * geometry_token_bytes(&session->geometry));
    session->version = store_next_version(append->store);
    session->lost_tokens = 0;
    session->aged_to = PAGE_LEVEL_MIN - 1;
    models_note_append(session);
    session_stay_in_use(session);
    session->appending = false;
    session->joint = NULL;
    bool may_share = session->sharing != SESSION_SHARES_NOTHING &&
                     prefix_offer(session, append->first - append->tail_tokens);
    /* What was among the newest may no longer be. */
    if (finer || may_share || session->policy.newest_tokens > 0)
        keeper_add(keeper, session);
    ageing_schedule(&append->store->ageing, session);
    append->members.ticket = keeper_ticket(keeper, session);
    append->members.may_share = may_share;
    append->members.published = true;
    session_read_state(session, &append->members.result);
    return old;
}

/* After this has begun to change the session it cannot fail. */
static int publish(struct append *append) {
    struct session *session = append->session;
    struct old_tail old = {0};
    pthread_mutex_lock(session->lock);
    int status =
        session->deleted ? STORE_MISS : session_reserve_slices(session, append->run_count + 1);
    if (status == STORE_OK)
        status = append_ids_publish(append);
    if (status == STORE_OK)
        old = publish_locked(append);
    pthread_mutex_unlock(session->lock);
    if (old.tail)
        tail_disown(old.tail);
    if (old.coded.chunk)
        chunk_disown(old.coded.chunk, old.coded.level);
    return status;
}

/* Those that wait in other threads look again. */
static void tell_members(const struct store *store) {
    if (store->budget.on_release)
        store->budget.on_release(store->budget.context);
}

/* What the last of the members does for all. */
static int commit_all(struct append *append, void *workspace) {
    if (append->complete_count < append->run_count ||
        (append->ids.wanted && append->ids.count < append->end - append->first))
        return STORE_INCOMPLETE;
    int status = append->settle ? close_tail(append, workspace) : STORE_OK;
    if (status == STORE_OK)
        status = publish(append);
    if (status != STORE_OK)
        return status;
    keeper_poke(&append->store->keeper);
    return STORE_OK;
}

/* With the session locked: STORE_OK if the append is visible, STORE_MORE if it is this member's to
 * see to that. */
static int look_at_others(struct append_member *member) {
    struct append_members *members = &member->append->members;
    if (members->published)
        return STORE_OK;
    if (members->failed)
        return STORE_CANCELLED;
    if (!member->has_committed && ++members->committed == members->expected)
        members->last_to_commit = member->number;
    member->has_committed = true;
    if (members->last_to_commit == member->number)
        return STORE_MORE;
    bool all_came = members->joined == members->expected;
    return all_came || clock_now_ns() < members->join_deadline_ns ? STORE_WAIT : STORE_INCOMPLETE;
}

int append_commit(struct append_member *member, void *workspace, struct session_state *state) {
    struct append *append = member->append;
    pthread_mutex_lock(append->session->lock);
    int status = look_at_others(member);
    pthread_mutex_unlock(append->session->lock);
    if (status == STORE_MORE) {
        status = commit_all(append, workspace);
        if (status == STORE_OK && append->members.expected > 1)
            tell_members(append->store);
    }
    if (status == STORE_OK)
        *state = append->members.result;
    return status;
}

bool append_is_settled(const struct append_member *member) {
    const struct append *append = member->append;
    return keeper_has_done(&append->store->keeper, append->session, append->members.ticket);
}

bool append_may_share(const struct append_member *member) {
    return member->append->members.may_share;
}

struct session *append_session(const struct append_member *member) {
    return member->append->session;
}

static void run_deinit(struct run *run) {
    builder_deinit(&run->builder);
    if (run->chunk)
        chunk_unref(run->chunk);
    free(run->arrived);
}

/* Frees some of the runs, and with the last of them the rest. */
static bool drop_step(struct discard *discard) {
    struct append *append = (struct append *)discard;
    for (int i = 0; i < DROP_STEP_RUNS && append->dropped_runs <= append->run_count; i++)
        run_deinit(&append->runs[append->dropped_runs++]);
    if (append->dropped_runs <= append->run_count)
        return true;
    struct budget *budget = append->session->budget;
    session_unref(append->session);
    budget_release(budget, append->charged_bytes);
    free(append);
    return false;
}

static void drop_tails(struct append *append) {
    bool claimed = append->filling && !append->copied_from && !append->decoded_from;
    if (claimed && !append->members.published)
        tail_cut(append->filling, append->tail_tokens);
    if (append->filling)
        tail_unref(append->filling);
    if (append->copied_from)
        tail_unref(append->copied_from);
    if (append->decoded_from)
        record_unpin(append->decoded_from);
    if (append->decoded_chunk)
        chunk_unref(append->decoded_chunk);
    if (append->remainder)
        tail_unref(append->remainder);
}

static void unclaim(const struct append *append) {
    struct session *session = append->session;
    pthread_mutex_lock(session->lock);
    session->appending = false;
    session_stay_in_use(session); /* its client is told to try again */
    if (!session->deleted)
        ageing_schedule(&append->store->ageing, session);
    pthread_mutex_unlock(session->lock);
    if (append->tail_is_lost)
        evict_lost(append->store, session);
}

static void append_free(struct append *append) {
    drop_tails(append);
    if (!append->members.published)
        unclaim(append);
    append->discard.step = drop_step;
    if (append->members.published)
        while (drop_step(&append->discard)) /* its chunks are the session's: nothing is freed */
            ;
    else if (drop_step(&append->discard))
        keeper_discard(&append->store->keeper, &append->discard);
}

/* True if it was the last of those that came. None comes behind. */
static bool leave(struct append *append) {
    struct append_members *members = &append->members;
    pthread_mutex_lock(append->session->lock);
    if (!members->published) {
        members->failed = true;
        if (append->session->joint == append)
            append->session->joint = NULL;
    }
    bool last = ++members->left == members->joined;
    pthread_mutex_unlock(append->session->lock);
    return last;
}

void append_end(struct append_member *member) {
    struct append *append = member->append;
    struct store *store = append->store;
    append_member_free(append->session->budget, member);
    if (leave(append))
        append_free(append);
    else
        tell_members(store);
}
