/* Who is at the other end of a socket, in words for the log. */
#ifndef DAEMON_SERVER_PEER_H
#define DAEMON_SERVER_PEER_H

#include <stddef.h>

/* "pid N, uid N" of a unix socket's peer when it connected, HOST:PORT of a TCP one's. */
void peer_describe(int socket, char *text, size_t bytes);

#endif
