/* What time does to sessions that nobody uses: they get coarser step by step, as their policy says,
 * and are deleted in the end.
 *
 * The keeper's thread does it beside its other work, with a part of one core at most. Sessions are
 * looked at when something is due, not before. Their tails are coded after a while without use.
 */
#ifndef DAEMON_STORE_AGEING_H
#define DAEMON_STORE_AGEING_H

#include "daemon/store/coarsening.h"
#include "daemon/store/due.h"
#include "daemon/store/recode.h"

struct store;

enum { AGEING_CORE_PART = 4 }; /* a quarter of one core */

struct ageing_stats {
    uint64_t chunks, bytes_before, bytes_after; /* coded anew because of idle steps */
    uint64_t expired_sessions;
    uint64_t coded_tails, tail_bytes_before, tail_bytes_after; /* of idle sessions */
    uint64_t decoded_tails;                                    /* because of an append */
};

struct ageing {
    struct store *store;
    struct due due;
    _Atomic uint64_t tail_idle_ms; /* before a tail is coded; 0: it never is */
    _Atomic int tail_level;        /* PAGE_EXACT or PAGE_FAST8 */
    /* the keeper's thread's alone */
    struct coarsening work;          /* without a session: none is under work */
    uint64_t work_ns, rest_until_ns; /* since when it is; when there may be more */
    struct {
        _Atomic uint64_t chunks, bytes_before, bytes_after, expired_sessions;
        _Atomic uint64_t coded_tails, tail_bytes_before, tail_bytes_after, decoded_tails;
    } counts;
};

void ageing_init(struct ageing *ageing, struct store *store);
void ageing_deinit(struct ageing *ageing);

/* After how long without use tails are coded, and how; at any time. */
void ageing_set_tails(struct ageing *ageing, uint64_t idle_ms, int level);

/* How the tail of a session may be coded that was not used for so long: exactly, or as time does it
 * by then. */
int ageing_tail_level(const struct ageing *ageing, uint64_t idle_for_ns);

/* With the session locked, after it was made or changed, or its policy was: looks at it again when
 * something is due. */
void ageing_schedule(struct ageing *ageing, struct session *session);

/* With the session locked: it leaves the store. */
void ageing_forget(struct ageing *ageing, struct session *session);

/* Does the next thing that is due: recodes a chunk, or less; result says what became of it. Returns
 * the time at which to be called again. */
uint64_t ageing_step(struct ageing *ageing, struct recoder *recoder, struct recode_result *result);

void ageing_read_stats(struct ageing *ageing, struct ageing_stats *stats);

#endif
