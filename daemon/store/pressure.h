/* What happens when memory runs short, in this order: what is coldest is aged to its floor, and
 * when there is nothing left to age it goes to disk; tails that are raw are coded, and then go,
 * too; and without a disk, or one with room, the coldest session loses its newest tokens. What a
 * disk would take is not lost, though it cannot go there at the moment because it is just being
 * loaded, or was just used.
 *
 * Above the high mark it begins, at the low mark it ends; while appends wait for memory it goes on
 * whatever the marks say, and only then does it take what was just used. The marks are shares of
 * what the limit leaves to sessions.
 *
 * The same holds for each tenant's own limit, and then it is its sessions alone that make room.
 * Where the daemon's limit is reached, tenants that hold more than their fair share, which is the
 * same for all that hold anything, or less by their own limit, make room before others do. One
 * thread, the keeper's, works here; the counters and marks are anybody's.
 */
#ifndef DAEMON_STORE_PRESSURE_H
#define DAEMON_STORE_PRESSURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct store;
struct session;
struct tenant;

/* Of memory that runs short, of all or of one tenant. */
struct pressure_state {
    uint64_t waiting_since_ns; /* appends wait for memory without a break; 0: none does */
    uint64_t evicted_ns;       /* a session last lost tokens, went to disk, or had its tail coded */
    uint64_t rest_until_ns;    /* in vain is not looked again before */
};

/* Since the start. */
struct pressure_stats {
    _Atomic uint64_t rounds; /* times that there was pressure */
    _Atomic uint64_t aged_sessions, aged_bytes;
    _Atomic uint64_t coded_tails, coded_tail_bytes; /* raw ones, and what that freed */
    _Atomic uint64_t evicted_sessions, evicted_tokens, evicted_bytes; /* times one lost tokens */
    _Atomic uint64_t deleted_sessions;                                /* of these, to the last */
};

struct pressure {
    struct store *store;
    _Atomic uint32_t high_percent, low_percent;
    struct pressure_stats stats;
    struct pressure_state state; /* of the daemon's limit; tenants have theirs */
    struct tenant *short_of;     /* whose limit it is about now; NULL: the daemon's */
    struct tenant *payer;        /* whose sessions make room; NULL: anybody's */
    bool round_ended;            /* all limits were looked at */
    bool no_choice;              /* in this round: somebody waits, or the limit was lowered */
    uint64_t broken_writes;      /* to disk, that were seen so far, */
    uint64_t disk_failed_ns;     /* and when the last of them was */
};

/* A round comes to each limit once: to the tenants' first. pressure_next() goes on to the next that
 * is under pressure and does not rest; false: there is none. */
void pressure_begin_round(struct pressure *pressure);
bool pressure_next(struct pressure *pressure);

/* Who is to make some room now; and then, if the one chosen could make none: false if nobody else
 * is to. */
void pressure_choose_payer(struct pressure *pressure);
bool pressure_ask_others(struct pressure *pressure);

/* When it is to be looked again at pressure that is there; UINT64_MAX: there is none. */
uint64_t pressure_look_again_ns(struct pressure *pressure);

/* A round was in vain, and took so much of a processor: the next begins when that is a small share
 * of the time. */
void pressure_rest(struct pressure *pressure, uint64_t spent_ns);

/* Whether appends have waited, for whichever limit, so long that it cannot wait for what frees
 * memory without loss. */
bool pressure_is_urgent(struct pressure *pressure);

/* Whether what pressure_next() found goes on. */
bool pressure_goes_on(struct pressure *pressure);

/* The payer's coldest session that had anything above its floor, which is now to be aged; a
 * reference of the caller's, who codes it and tells what that freed. NULL: there is none. */
struct session *pressure_age(struct pressure *pressure) __attribute__((warn_unused_result));
void pressure_has_aged(struct pressure *pressure, uint64_t freed_bytes);

/* The payer's coldest sessions go to disk, or if there is no disk, or nothing that can go there as
 * it is, raw tails are coded. False if there are none either. */
bool pressure_spill(struct pressure *pressure);

/* The payer's coldest session that can be evicted loses tokens. False if there is none. */
bool pressure_evict(struct pressure *pressure);

#endif
