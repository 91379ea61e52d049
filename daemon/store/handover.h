/* Handing the pool over: what the next daemon needs to take it over is written into it. */
#ifndef DAEMON_STORE_HANDOVER_H
#define DAEMON_STORE_HANDOVER_H

#include <stdint.h>

struct store;

/* Once the pool is there: that it is in use, should somebody find it. */
void handover_begin(struct store *store);

/* Nobody uses the store any more, whose keeper and disk have ended. Tails are moved into the pool
 * one by one. 0, or -1, logged: then there is nothing to take over. */
int handover_write(struct store *store) __attribute__((warn_unused_result));

#endif
