/* Who is at the other end of a socket: in words for the log, and whose client it is. */
#ifndef DAEMON_SERVER_PEER_H
#define DAEMON_SERVER_PEER_H

#include "daemon/rpc/credentials.h"

/* "pid N, uid N" of a unix socket's peer when it connected, HOST:PORT of a TCP one's. */
void peer_describe(int socket, char *text, size_t bytes);

/* By what the system says of a unix socket's peer when it connected; nobody, where it says nothing.
 */
struct identity peer_identify(int socket, struct credentials *credentials);

#endif
