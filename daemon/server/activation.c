#include "daemon/server/activation.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/base/address.h"
#include "daemon/base/log.h"

static bool is_stream_that_listens(int socket) {
    return sd_is_socket(socket, AF_UNSPEC, SOCK_STREAM, 1) > 0;
}

static void write_unix_name(struct listener *listener, const struct sockaddr_un *address,
                            socklen_t bytes) {
    size_t length = bytes - offsetof(struct sockaddr_un, sun_path);
    if (length > 1 && address->sun_path[0] == 0) /* an abstract name */
        snprintf(listener->name, sizeof listener->name, "@%.*s", (int)length - 1,
                 address->sun_path + 1);
    else
        snprintf(listener->name, sizeof listener->name, "%.*s", (int)length, address->sun_path);
}

/* What is wrong with the socket, or NULL: then the listener has its name. */
static const char *fault_of(struct listener *listener, int socket) {
    union {
        struct sockaddr_un local;
        union address tcp;
    } address = {0};
    socklen_t bytes = sizeof address;
    if (!is_stream_that_listens(socket))
        return "is not a stream socket that listens";
    if (getsockname(socket, (struct sockaddr *)&address, &bytes) < 0)
        return "has no address";
    if (address.local.sun_family == AF_UNIX) {
        write_unix_name(listener, &address.local, bytes);
        return NULL;
    }
    if (address.local.sun_family != AF_INET && address.local.sun_family != AF_INET6)
        return "is neither a unix nor a TCP socket";
    address_write(&address.tcp, listener->name);
    listener->is_tcp = true;
    return address_is_loopback(&address.tcp)
               ? NULL
               : "is not on loopback: addresses beyond it need TLS, which this version has not";
}

int activation_open(struct listener *listener, int socket, int number) {
    int flags = fcntl(socket, F_GETFL);
    const char *fault = fault_of(listener, socket);
    if (!fault && (flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) < 0))
        fault = "cannot be set to not block";
    if (fault) {
        log_error("socket %d of those that the service manager hands over%s%s %s", number,
                  listener->name[0] ? ", " : "", listener->name, fault);
        return -1;
    }
    listener->socket = socket;
    return 0;
}
