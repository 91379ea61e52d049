#include "daemon/server/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/log.h"

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

void unix_socket_remove(const struct listener *listener) {
    if (listener->inode != 0 && listener->inode == inode_of(listener->name))
        unlink(listener->name);
}

static const char *bind_sentence(int error) {
    return error == EADDRINUSE ? "it is taken; is another daemon running?" : strerror(error);
}

static int listen_on(struct listener *listener, const struct sockaddr_un *address, unsigned mode) {
    listener->socket = new_socket();
    if (listener->socket < 0 || bind_path(listener->socket, address, mode) < 0)
        return -1;
    listener->inode = inode_of(address->sun_path);
    return listen(listener->socket, SOMAXCONN);
}

int unix_socket_open(struct listener *listener, const char *path, unsigned mode) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        log_error("the socket path %s is longer than %zu bytes", path, sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    memcpy(listener->name, path, strlen(path) + 1);
    if (listen_on(listener, &address, mode) == 0)
        return 0;
    log_error("cannot listen on %s: %s", path, bind_sentence(errno));
    return -1;
}
