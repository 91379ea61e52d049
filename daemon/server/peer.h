/* Who is at the other end of a socket: in words for the log, and whose client it is. */
#ifndef DAEMON_SERVER_PEER_H
#define DAEMON_SERVER_PEER_H

#include "daemon/server/connection.h"

/* "pid N, uid N" of a unix socket's peer when it connected, HOST:PORT of a TCP one's. */
void peer_describe(int socket, char *text, size_t bytes);

/* By its certificate over TLS, else by what the system says of a unix socket's peer when it
 * connected; nobody, where that says nothing. */
void peer_identify(struct connection *connection);

/* Whether it is still its tenant's, by the table of credentials that holds now. Costs nothing while
 * that is the one it was found in. */
bool peer_is_the_same(struct connection *connection) __attribute__((warn_unused_result));

#endif
