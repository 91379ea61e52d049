/* Quotas, of whatever is counted: connections, sessions, bytes.
 *
 * A charge is a part of a quota: taken before what it is for is made, kept beside it, and released
 * with it. Safe from any thread; a charge belongs to who has what it is for.
 */
#ifndef DAEMON_BASE_CHARGE_H
#define DAEMON_BASE_CHARGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define QUOTA_NONE UINT64_MAX

struct quota {
    _Atomic uint64_t limit; /* may change at any time; QUOTA_NONE: none */
    _Atomic uint64_t used;
    _Atomic uint64_t refused; /* charges, since the start */
};

struct charge {
    struct quota *quota; /* NULL: nothing is charged */
    uint64_t amount;
};

/* False where that is more than the quota leaves; then nothing is charged. To no quota (NULL)
 * nothing is. What is charged already stays so, when this fails, too. */
bool charge_take(struct charge *charge, struct quota *quota, uint64_t amount)
    __attribute__((warn_unused_result));

/* The same of what is there already: whatever the limit. */
void charge_anyway(struct charge *charge, struct quota *quota, uint64_t amount);

/* Nothing happens to a charge of nothing. */
void charge_release(struct charge *charge);

/* Like charge_take(), where another limit holds, too. */
bool charge_take_within(struct charge *charge, struct quota *quota, uint64_t amount, uint64_t limit)
    __attribute__((warn_unused_result));

#endif
