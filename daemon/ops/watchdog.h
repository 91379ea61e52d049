/* The watchdog: tells the service manager that the daemon is alive, which it is while the main loop
 * and every reactor are.
 *
 * At a half of the manager's time each reactor is asked to answer; the manager is told when all
 * have. Without a manager that asks for it there is no timer and nothing wakes. On the main loop.
 */
#ifndef DAEMON_OPS_WATCHDOG_H
#define DAEMON_OPS_WATCHDOG_H

#include "daemon/server/reactor.h"

struct watchdog {
    uv_timer_t timer;
    struct reactor *reactors;
    size_t reactor_count;
    bool asking;
};

/* Closed by watchdog_close(), before the loop ends. */
void watchdog_init(struct watchdog *watchdog, uv_loop_t *loop);
void watchdog_close(struct watchdog *watchdog);

/* Starts if the service manager asks for it. */
void watchdog_start(struct watchdog *watchdog, struct reactor *reactors, size_t reactor_count);

/* A reactor has answered. */
void watchdog_on_answer(struct watchdog *watchdog);

#endif
