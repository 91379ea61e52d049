#include "daemon/server/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/address.h"
#include "daemon/base/log.h"
#include "daemon/server/peer.h"
#include "daemon/server/unix_socket.h"

enum { PAUSE_MS = 100 };

static struct rpc_daemon *daemon_of(const struct listener *listener) {
    return listener->dealer->reactors[0].context.daemon;
}

/* To the next reactor that has room. From here on the connection counts. */
static bool deal_out(struct listener *listener, int socket) {
    struct dealer *dealer = listener->dealer;
    struct arrival arrival = {socket, listener->is_tls ? dealer->tls : NULL};
    atomic_fetch_add(&daemon_of(listener)->connections, 1);
    for (size_t i = 0; i < dealer->reactor_count; i++) {
        size_t next = dealer->next_reactor++ % dealer->reactor_count;
        if (reactor_give(&dealer->reactors[next], arrival))
            return true;
    }
    atomic_fetch_sub(&daemon_of(listener)->connections, 1);
    return false;
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer) {
    struct listener *listener = timer->data;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

/* What cannot be taken now stays in the kernel's queue for a moment. */
static void pause_accepting(struct listener *listener) {
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
}

static void accept_failed(struct listener *listener, int error) {
    if (error == EAGAIN || error == ECONNABORTED || error == EINTR)
        return;
    log_error("a connection could not be accepted: %s", strerror(error));
    pause_accepting(listener);
}

static void refuse(const struct listener *listener, int socket) {
    atomic_fetch_add(&daemon_of(listener)->connections_refused, 1);
    char peer[ADDRESS_TEXT_BYTES];
    peer_describe(socket, peer, sizeof peer);
    log_about(LOG_LEVEL_WARNING, &(struct log_fields){.peer = peer},
              "more than %llu connections; one is refused",
              (unsigned long long)listener->dealer->connections_max);
    close(socket);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct listener *listener = poll->data;
    (void)events;
    if (status < 0)
        return;
    int socket = accept4(listener->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
        accept_failed(listener, errno);
    } else if (atomic_load(&daemon_of(listener)->connections) >=
               listener->dealer->connections_max) {
        refuse(listener, socket);
    } else if (!deal_out(listener, socket)) {
        atomic_fetch_add(&daemon_of(listener)->connections_refused, 1);
        close(socket); /* every reactor's inbox is full */
        pause_accepting(listener);
    }
}

int listener_start(struct listener *listener, uv_loop_t *loop, struct dealer *dealer) {
    listener->dealer = dealer;
    int status = uv_poll_init(loop, &listener->poll, listener->socket);
    if (status < 0) {
        log_error("cannot accept on %s: %s", listener->name, uv_strerror(status));
        return -1;
    }
    uv_timer_init(loop, &listener->pause);
    listener->poll.data = listener->pause.data = listener;
    listener->started = true;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    return 0;
}

static void close_socket(struct listener *listener) {
    if (listener->socket >= 0)
        close(listener->socket);
    listener->socket = -1;
}

static void on_closed(uv_handle_t *handle) {
    close_socket(handle->data);
}

void listener_stop(struct listener *listener) {
    if (listener->socket < 0 ||
        (listener->started && uv_is_closing((uv_handle_t *)&listener->poll)))
        return;
    unix_socket_remove(listener);
    if (!listener->started) {
        close_socket(listener);
        return;
    }
    uv_close((uv_handle_t *)&listener->pause, NULL);
    uv_close((uv_handle_t *)&listener->poll, on_closed);
}
