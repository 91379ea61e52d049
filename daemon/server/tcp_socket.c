#include "daemon/server/tcp_socket.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/address.h"
#include "daemon/base/log.h"

static int listen_on(int socket, const union address *address) {
    int on = 1; /* a port whose last connections still linger is taken again */
    if (setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(socket, &address->any, address_bytes(address)) < 0)
        return -1;
    return listen(socket, SOMAXCONN);
}

int tcp_socket_open(struct listener *listener, const char *text) {
    union address address;
    if (!address_parse(text, &address)) {
        log_error("%s is not an address", text);
        return -1;
    }
    socklen_t bytes = sizeof address;
    listener->socket = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->socket < 0 || listen_on(listener->socket, &address) < 0 ||
        getsockname(listener->socket, &address.any, &bytes) < 0) {
        log_error("cannot listen on %s: %s", text, strerror(errno));
        return -1;
    }
    address_write(&address, listener->name);
    listener->is_tcp = true;
    return 0;
}
