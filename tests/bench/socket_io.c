#include "tests/bench/socket_io.h"

#include "tests/bench/fail.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

enum { BACKLOG = 64 };

union address {
    struct sockaddr any;
    struct sockaddr_un local;
    struct sockaddr_in internet;
};

void send_all(int socket, const void *bytes, size_t count) {
    for (const char *at = bytes; count;) {
        ssize_t sent = send(socket, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            fail("send");
        at += sent > 0 ? sent : 0;
        count -= sent > 0 ? (size_t)sent : 0;
    }
}

bool receive_all(int socket, void *bytes, size_t count) {
    for (char *at = bytes; count;) {
        ssize_t got = recv(socket, at, count, MSG_WAITALL);
        if (got < 0 && errno != EINTR)
            fail("recv");
        if (got == 0)
            return false;
        at += got > 0 ? got : 0;
        count -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

static socklen_t address_of(const char *transport, const char *path, uint16_t port,
                            union address *address) {
    memset(address, 0, sizeof *address);
    if (!strcmp(transport, "tcp")) {
        address->internet.sin_family = AF_INET;
        address->internet.sin_port = htons(port);
        address->internet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof address->internet;
    }
    address->local.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->local.sun_path)
        fail_because("the path is too long: %s", path);
    strcpy(address->local.sun_path, path);
    return sizeof address->local;
}

int listen_on(const char *transport, const char *path, uint16_t *port) {
    union address address;
    socklen_t bytes = address_of(transport, path, 0, &address);
    int listener = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, &address.any, bytes) || listen(listener, BACKLOG) ||
        getsockname(listener, &address.any, &bytes))
        fail("listen");
    *port = address.any.sa_family == AF_INET ? ntohs(address.internet.sin_port) : 0;
    return listener;
}

int connect_to(const char *transport, const char *path, uint16_t port) {
    union address address;
    socklen_t bytes = address_of(transport, path, port, &address);
    int connection = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || connect(connection, &address.any, bytes))
        fail("connect");
    return connection;
}

void tune_socket(int socket, int buffer_bytes) {
    int on = 1;
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (buffer_bytes && (setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof on) ||
                         setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof on)))
        fail("the socket's buffers");
}
