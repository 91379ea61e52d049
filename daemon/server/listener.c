#include "daemon/server/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/log.h"

enum { PAUSE_MS = 100 };

static int new_socket(void) {
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Whether somebody answers on the socket that stands in the way. */
static bool is_alive(const struct sockaddr_un *address) {
    int probe = new_socket();
    if (probe < 0)
        return true;
    int status = connect(probe, (const struct sockaddr *)address, sizeof *address);
    bool alive = status == 0 || errno != ECONNREFUSED;
    close(probe);
    return alive;
}

static int bind_fresh(int socket, const struct sockaddr_un *address, unsigned mode) {
    mode_t old = umask(0777 & ~mode);
    int status = bind(socket, (const struct sockaddr *)address, sizeof *address);
    umask(old);
    return status;
}

static int bind_path(int socket, const struct sockaddr_un *address, unsigned mode) {
    struct stat entry;
    if (bind_fresh(socket, address, mode) == 0)
        return 0;
    if (errno != EADDRINUSE || stat(address->sun_path, &entry) < 0 || !S_ISSOCK(entry.st_mode))
        return -1;
    if (is_alive(address)) {
        errno = EADDRINUSE;
        return -1;
    }
    log_info("%s was left by a daemon that is gone; it is replaced", address->sun_path);
    if (unlink(address->sun_path) < 0)
        return -1;
    return bind_fresh(socket, address, mode);
}

static uint64_t inode_of(const char *path) {
    struct stat entry;
    return stat(path, &entry) == 0 ? entry.st_ino : 0;
}

static void remove_socket(const struct listener *listener) {
    if (listener->inode == inode_of(listener->path))
        unlink(listener->path);
}

static const char *bind_sentence(int error) {
    return error == EADDRINUSE ? "it is taken; is another daemon running?" : strerror(error);
}

static int open_socket(struct listener *listener, const char *path, unsigned mode) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        log_error("the socket path %s is longer than %zu bytes", path, sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    memcpy(listener->path, path, strlen(path) + 1);
    listener->socket = new_socket();
    if (listener->socket >= 0 && bind_path(listener->socket, &address, mode) == 0) {
        listener->bound = true;
        listener->inode = inode_of(path);
        if (listen(listener->socket, SOMAXCONN) == 0)
            return 0;
    }
    log_error("cannot listen on %s: %s", path, bind_sentence(errno));
    return -1;
}

static _Atomic uint64_t *connections_of(const struct listener *listener) {
    return &listener->reactors[0].context.daemon->connections;
}

/* To the next reactor that has room. From here on the connection counts. */
static bool deal_out(struct listener *listener, int socket) {
    atomic_fetch_add(connections_of(listener), 1);
    for (size_t i = 0; i < listener->reactor_count; i++) {
        size_t next = listener->next_reactor++ % listener->reactor_count;
        if (reactor_give(&listener->reactors[next], socket))
            return true;
    }
    atomic_fetch_sub(connections_of(listener), 1);
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

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct listener *listener = poll->data;
    (void)events;
    if (status < 0)
        return;
    int socket = accept4(listener->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
        accept_failed(listener, errno);
    } else if (atomic_load(connections_of(listener)) >= listener->connections_max) {
        log_warning("more than %llu connections; one is refused",
                    (unsigned long long)listener->connections_max);
        close(socket);
    } else if (!deal_out(listener, socket)) {
        close(socket); /* every reactor's inbox is full */
        pause_accepting(listener);
    }
}

int listener_start(struct listener *listener, uv_loop_t *loop, const char *path, unsigned mode,
                   struct reactor *reactors, size_t reactor_count, uint64_t connections_max) {
    *listener = (struct listener){.socket = -1,
                                  .reactors = reactors,
                                  .reactor_count = reactor_count,
                                  .connections_max = connections_max};
    if (open_socket(listener, path, mode) < 0) {
        if (listener->socket >= 0)
            close(listener->socket);
        if (listener->bound)
            remove_socket(listener);
        listener->bound = false;
        return -1;
    }
    uv_timer_init(loop, &listener->pause);
    listener->pause.data = listener;
    uv_poll_init(loop, &listener->poll, listener->socket);
    listener->poll.data = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    return 0;
}

static void on_closed(uv_handle_t *handle) {
    struct listener *listener = handle->data;
    close(listener->socket);
    listener->socket = -1;
}

void listener_stop(struct listener *listener) {
    if (!listener->bound || uv_is_closing((uv_handle_t *)&listener->poll))
        return;
    remove_socket(listener);
    uv_close((uv_handle_t *)&listener->pause, NULL);
    uv_close((uv_handle_t *)&listener->poll, on_closed);
}
