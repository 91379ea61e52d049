/* Listening on a TCP port. */
#ifndef DAEMON_SERVER_TCP_SOCKET_H
#define DAEMON_SERVER_TCP_SOCKET_H

#include "daemon/server/listener.h"

/* Binds HOST:PORT, which address_parse() takes, and listens; the listener's name has the port that
 * was chosen. 0, or -1, logged. */
int tcp_socket_open(struct listener *listener, const char *text)
    __attribute__((warn_unused_result));

#endif
