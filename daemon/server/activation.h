/* Sockets that the service manager opened and handed over: sd_listen_fds(3). */
#ifndef DAEMON_SERVER_ACTIVATION_H
#define DAEMON_SERVER_ACTIVATION_H

#include "daemon/server/listener.h"

/* How many were handed over; 0: none, -1: the environment is wrong, logged. Once for the process:
 * the environment variables are taken away, so that no child takes them for its own. */
int activation_count(void) __attribute__((warn_unused_result));

/* Takes the one of this index if it listens and is a unix stream socket or TCP on loopback. 0, or
 * -1, logged. */
int activation_open(struct listener *listener, int index) __attribute__((warn_unused_result));

#endif
