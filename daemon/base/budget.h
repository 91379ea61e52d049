/* The memory limit: every byte the daemon holds for clients is reserved here before it is taken.
 *
 * A budget may be a part of another, with a limit of its own: what is reserved of the part is
 * reserved of the whole, too. A budget is safe to use from any thread. Whoever reserves releases;
 * nothing is owned here.
 */
#ifndef DAEMON_BASE_BUDGET_H
#define DAEMON_BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    struct budget *whole; /* of which this is a part; NULL: of none */
    _Atomic uint64_t limit_bytes, used_bytes;
    _Atomic uint64_t wanted_bytes; /* a part: what its own limit refused last; 0: the whole's did */
    _Atomic uint64_t refused;      /* reservations, by its own limit, since the start */
    unsigned small_share; /* one part in so many of the limit is for small things; 0: none */
    /* Called after a release, from the releasing thread, while somebody waits for memory. */
    void (*on_release)(void *context);
    void *context;
    /* Asked at the limit to release so many bytes that are held for convenience only. */
    void (*reclaim)(void *context, uint64_t bytes);
    void *reclaim_context;
    _Atomic unsigned waiting;
};

void budget_init(struct budget *budget, uint64_t limit_bytes);

/* A part without a limit of its own, which may be set at any time. */
void budget_init_part(struct budget *part, struct budget *whole);

static inline bool budget_is_of(const struct budget *budget, const struct budget *whole) {
    return budget == whole || budget->whole == whole;
}

/* Of a part and its whole the one whose limit is in the way of what was refused last. */
struct budget *budget_short_of(struct budget *budget);

/* What is reserved of the whole becomes the part's, too: false at its limit; and no longer is. Of a
 * budget that is no part nothing changes. */
bool budget_assign(struct budget *budget, uint64_t bytes) __attribute__((warn_unused_result));
void budget_unassign(struct budget *budget, uint64_t bytes);

/* False at the limit; then nothing is reserved. */
bool budget_reserve(struct budget *budget, uint64_t bytes) __attribute__((warn_unused_result));
/* The same, of what nobody needs: nothing is reclaimed for it. */
bool budget_reserve_spare(struct budget *budget, uint64_t bytes)
    __attribute__((warn_unused_result));

/* The same for pages, which leave the part for small things alone: at the limit, too, sessions can
 * be opened and answers be written. */
bool budget_reserve_bulk(struct budget *budget, uint64_t bytes) __attribute__((warn_unused_result));

void budget_release(struct budget *budget, uint64_t bytes);

/* The same without telling those who wait: for what is taken and given back in passing. */
void budget_return(struct budget *budget, uint64_t bytes);

/* Something became reclaimable: to who waits that is as good as a release. */
void budget_tell_waiting(struct budget *budget);

/* Between these two calls releases are reported to on_release. */
void budget_wait_begin(struct budget *budget);
void budget_wait_end(struct budget *budget);

#endif
