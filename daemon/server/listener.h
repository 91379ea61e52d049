/* The listener: the unix socket on which clients come in; it deals them out to the reactors in
 * turn.
 *
 * Runs on the main loop.
 */
#ifndef DAEMON_SERVER_LISTENER_H
#define DAEMON_SERVER_LISTENER_H

#include "daemon/server/reactor.h"

struct listener {
    uv_poll_t poll;
    uv_timer_t pause;
    int socket;
    char path[108];
    uint64_t inode; /* of the socket file, to remove no other's */
    struct reactor *reactors;
    size_t reactor_count, next_reactor;
    uint64_t connections_max;
    bool bound;
};

/* Binds, listens and starts accepting. A socket that a dead daemon left is replaced, a living one's
 * is not. 0, or -1, logged. */
int listener_start(struct listener *listener, uv_loop_t *loop, const char *path, unsigned mode,
                   struct reactor *reactors, size_t reactor_count, uint64_t connections_max)
    __attribute__((warn_unused_result));

/* Stops accepting and removes the socket. */
void listener_stop(struct listener *listener);

#endif
