/* A listener: one socket on which clients come in; it deals them out to the reactors in turn.
 *
 * Runs on the main loop. unix_socket.h, tcp_socket.h and activation.h open the sockets, listeners.h
 * keeps all of a daemon.
 */
#ifndef DAEMON_SERVER_LISTENER_H
#define DAEMON_SERVER_LISTENER_H

#include <sys/un.h>

#include "daemon/server/reactor.h"

enum { LISTENER_NAME_BYTES = sizeof((struct sockaddr_un *)0)->sun_path };

/* Where clients go, the same for all listeners. */
struct dealer {
    struct reactor *reactors;
    size_t reactor_count, next_reactor;
    uint64_t connections_max;
    struct tls_context *tls; /* NULL: no listener is for TLS */
};

struct listener {
    uv_poll_t poll;
    uv_timer_t pause;
    int socket;                     /* -1: none */
    char name[LISTENER_NAME_BYTES]; /* a path, or HOST:PORT */
    uint64_t inode;                 /* of the file that was made for it; 0: none */
    struct dealer *dealer;
    bool is_tcp, is_tls, started;
};

/* Accepts from now on. 0, or -1, logged. */
int listener_start(struct listener *listener, uv_loop_t *loop, struct dealer *dealer)
    __attribute__((warn_unused_result));

/* Stops accepting, closes the socket and removes its file if it made one. */
void listener_stop(struct listener *listener);

#endif
