#include "daemon/store/tail_relief.h"

#include "daemon/base/clock.h"
#include "daemon/store/idle_tail.h"
#include "daemon/store/store.h"

/* What is to be known of a session's tail. */
struct look {
    bool may_be_coded, shared;
    int level;
};

static struct look look(const struct ageing *ageing, struct session *session, uint64_t idle_ns) {
    struct look look = {0};
    uint64_t now = clock_now_ns();
    pthread_mutex_lock(session->lock);
    uint64_t idle_for_ns = now > session->used_ns ? now - session->used_ns : 0;
    look.may_be_coded = !session->deleted && !session->appending && session->tail &&
                        idle_for_ns >= idle_ns && session->tail_retry_ns <= now;
    if (look.may_be_coded)
        (void)tail_bytes(session->tail, &look.shared);
    pthread_mutex_unlock(session->lock);
    look.level = ageing_tail_level(ageing, idle_for_ns);
    return look;
}

/* What others have too is free when it is coded for all of them. */
static void count(struct pressure_stats *stats, const struct recode_result *bytes, bool shared) {
    atomic_fetch_add(&stats->coded_tails, 1);
    if (!shared && bytes->bytes_after < bytes->bytes_before)
        atomic_fetch_add(&stats->coded_tail_bytes, bytes->bytes_before - bytes->bytes_after);
}

/* What the raw rows took; 0: they are not coded. */
static uint64_t code(struct store *store, struct session *session, uint64_t idle_ns) {
    struct recode_result bytes = {0};
    struct look tail = look(&store->ageing, session, idle_ns);
    if (tail.may_be_coded)
        idle_tail_code(store, session, tail.level, &bytes);
    if (bytes.bytes_before > 0)
        count(&store->pressure.stats, &bytes, tail.shared);
    return bytes.bytes_before;
}

bool tail_relief(struct store *store, struct coldness *order, uint64_t want_bytes,
                 uint64_t idle_ns) {
    struct session *session;
    uint64_t bytes = 0;
    if (atomic_load(&store->usage.tails_bytes) == 0)
        return false;
    coldness_walk_begin(order);
    while (bytes < want_bytes && (session = coldness_walk(order))) {
        bytes += code(store, session, idle_ns);
        session_unref(session);
    }
    return bytes > 0;
}
