/* Sockets that the service manager opened and handed over. */
#ifndef DAEMON_SERVER_ACTIVATION_H
#define DAEMON_SERVER_ACTIVATION_H

#include "daemon/server/listener.h"

/* Takes a socket if it listens and is a unix stream socket or TCP on loopback; number, from 1 on,
 * is for the log. 0, or -1, logged. */
int activation_open(struct listener *listener, int socket, int number)
    __attribute__((warn_unused_result));

#endif
