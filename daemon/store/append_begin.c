/* Where an append begins: its shape is checked, the session and its tail are claimed, members join.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/store/append_runs.h"

static void count_runs(struct append *append, const struct append_request *request) {
    uint64_t room = append->page_tokens - request->tail_tokens;
    append->first_run_tokens = (uint32_t)(request->tokens < room ? request->tokens : room);
    uint64_t rest = request->tokens - append->first_run_tokens;
    append->run_count = 1 + (rest + append->page_tokens - 1) / append->page_tokens;
}

static bool has_runs(const struct session *session, const struct append_request *request) {
    if (request->tokens == 0 || request->tokens > UINT64_MAX - request->first ||
        request->tail_tokens >= session->page_tokens)
        return false;
    uint64_t room = session->page_tokens - request->tail_tokens;
    uint64_t rest = request->tokens > room ? request->tokens - room : 0;
    uint64_t runs = 1 + rest / session->page_tokens + (rest % session->page_tokens != 0);
    return runs <= request->runs_max;
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
    if (request->tail_tokens != session->tail_tokens)
        return STORE_TAIL_MOVED;
    return has_runs(session, request) ? STORE_OK : STORE_UNSUPPORTED;
}

static struct append *append_new(struct store *store, struct session *session,
                                 const struct append_request *request) {
    uint64_t runs = (request->tokens - 1) / session->page_tokens + 3;
    uint64_t bytes = sizeof(struct append) + runs * sizeof(struct run) + append_ids_bytes(request);
    if (!budget_reserve(session->budget, bytes))
        return NULL;
    struct append *append = calloc(1, bytes);
    if (!append) {
        budget_release(session->budget, bytes);
        return NULL;
    }
    append->store = store;
    append->session = session;
    append->charged_bytes = bytes;
    append->first = request->first;
    append->end = request->first + request->tokens;
    append->tail_tokens = request->tail_tokens;
    append->page_tokens = session->page_tokens;
    append->settle = request->settle;
    append->members.expected = request->members;
    append->members.joined = 1;
    memcpy(append->members.group, request->group, APPEND_GROUP_BYTES);
    append_ids_init(append, request, &append->runs[runs]);
    count_runs(append, request);
    return append;
}

/* The first run fills the session's tail, if it is not coded and nobody else has appended to it. */
static void claim_tail(struct append *append, const struct session *session) {
    uint32_t rows = append->tail_tokens;
    struct tail *tail = session->tail;
    if (session->coded_tail.chunk) {
        append->decoded_chunk = session->coded_tail.chunk;
        chunk_ref(append->decoded_chunk);
        append->decoded_from = chunk_pin(append->decoded_chunk);
    }
    if (!tail)
        return;
    tail_ref(tail);
    if (tail_claim(tail, rows, rows + append->first_run_tokens))
        append->filling = tail;
    else
        append->copied_from = tail;
}

/* With the session locked. From here on others may join. */
static void claim(struct append *append, const struct append_request *request) {
    struct session *session = append->session;
    session->appending = true;
    session_use(session, false);
    append->policy = session->policy;
    claim_tail(append, session);
    if (request->members == 1)
        return;
    append->members.join_deadline_ns = clock_now_ns() + request->join_ns;
    session->joint = append;
}

/* Takes over the reference to the session, but for a failure. */
static int begin_first(struct store *store, struct session *session,
                       const struct append_request *request, struct append **append,
                       struct session_state *state) {
    struct append *new = has_runs(session, request) ? append_new(store, session, request) : NULL;
    pthread_mutex_lock(session->lock);
    int status = check(session, request);
    if (status == STORE_OK && !new) {
        status = STORE_FULL;
        session_stay_in_use(session);
    }
    if (status == STORE_OK)
        claim(new, request);
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    if (status != STORE_OK && new) {
        budget_release(session->budget, new->charged_bytes);
        free(new);
        new = NULL;
    }
    *append = new;
    return status;
}

/* --- members --- */

static bool is_same(const struct append *append, const struct append_request *request) {
    return request->members == append->members.expected && request->first == append->first &&
           request->tokens == append->end - append->first &&
           request->tail_tokens == append->tail_tokens && request->settle == append->settle &&
           request->token_ids == append->ids.wanted;
}

/* With the session locked: STORE_WAIT if there is nothing to join. */
static int join_locked(struct session *session, const struct append_request *request,
                       struct append **append, uint32_t *number) {
    struct append *joint = session->joint;
    if (!joint || memcmp(joint->members.group, request->group, APPEND_GROUP_BYTES) != 0)
        return STORE_WAIT;
    if (!is_same(joint, request))
        return STORE_INVALID;
    if (joint->members.joined == joint->members.expected)
        return STORE_BUSY;
    *number = ++joint->members.joined;
    *append = joint;
    return STORE_OK;
}

static int join(struct session *session, const struct append_request *request,
                struct append **append, uint32_t *number, struct session_state *state) {
    pthread_mutex_lock(session->lock);
    int status = join_locked(session, request, append, number);
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    return status;
}

/* Who finds nothing to join begins, and if another was faster joins after all. */
static int begin_or_join(struct store *store, struct session *session,
                         const struct append_request *request, struct append_member *member,
                         struct session_state *state) {
    bool joint = request->members > 1;
    int status =
        joint ? join(session, request, &member->append, &member->number, state) : STORE_WAIT;
    if (status == STORE_WAIT) {
        member->number = 1;
        status = begin_first(store, session, request, &member->append, state);
        if (status != STORE_BUSY || !joint)
            return status;
        status = join(session, request, &member->append, &member->number, state);
    }
    if (status == STORE_OK)
        session_unref(session); /* the append has one */
    return status == STORE_WAIT ? STORE_BUSY : status;
}

static struct append_member *member_new(struct budget *budget, bool heads_first) {
    if (!budget_reserve(budget, sizeof(struct append_member)))
        return NULL;
    struct append_member *member = calloc(1, sizeof *member);
    if (member)
        member->heads_first = heads_first;
    else
        budget_release(budget, sizeof *member);
    return member;
}

void append_member_free(struct budget *budget, struct append_member *member) {
    budget_release(budget, sizeof *member);
    free(member);
}

int append_begin(struct store *store, const struct append_request *request,
                 struct append_member **member, struct session_state *state) {
    struct session *session = store_find(store, request->session);
    if (!session)
        return STORE_MISS;
    *member = member_new(session->budget, request->heads_first);
    int status = *member ? begin_or_join(store, session, request, *member, state) : STORE_FULL;
    if (status == STORE_OK)
        return STORE_OK;
    if (*member)
        append_member_free(session->budget, *member);
    session_unref(session);
    return status;
}
