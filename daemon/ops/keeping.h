/* The pool in the service manager's keeping, from one daemon to the next: its file descriptor
 * store. Without a manager nothing is kept.
 */
#ifndef DAEMON_OPS_KEEPING_H
#define DAEMON_OPS_KEEPING_H

#include "daemon/base/inherited.h"
#include "daemon/store/store.h"

struct keeping {
    int pool, set_aside; /* that were kept; 0: none */
};

/* Takes from what was inherited what an earlier daemon gave to be kept. */
void keeping_init(struct keeping *keeping, struct inherited *inherited);

/* Once the store is there: what it has taken over stays kept, else its own pool is from now on. A
 * pool that crashed the daemon is kept under another name, one at a time. */
void keeping_settle(struct keeping *keeping, const struct store *store);

/* What the pool that is set aside takes; 0: there is none. */
uint64_t keeping_set_aside_bytes(const struct keeping *keeping);

void keeping_deinit(struct keeping *keeping);

#endif
