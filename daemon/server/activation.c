#include "daemon/server/activation.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/base/address.h"
#include "daemon/base/log.h"
#include "daemon/server/tls_context.h"

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

static const char *fault_of_tcp(const struct listener *listener, const union address *address,
                                const struct config *config) {
    if (listener->is_tls)
        return tls_context_is_wanted(config)
                   ? NULL
                   : "is for TLS, which needs tls_certificate, tls_key and tls_client_ca";
    return address_is_loopback(address) || config->tcp_beyond_loopback
               ? NULL
               : "is not on loopback: beyond it there has to be TLS (FileDescriptorName=tls); "
                 "tcp_beyond_loopback = yes does without";
}

/* What is wrong with the socket, or NULL: then the listener has its name. */
static const char *fault_of(struct listener *listener, int socket, const struct config *config) {
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
        return listener->is_tls ? "is a unix socket, on which there is no TLS" : NULL;
    }
    if (address.local.sun_family != AF_INET && address.local.sun_family != AF_INET6)
        return "is neither a unix nor a TCP socket";
    address_write(&address.tcp, listener->name);
    listener->is_tcp = true;
    return fault_of_tcp(listener, &address.tcp, config);
}

int activation_open(struct listener *listener, const struct activated *activated,
                    const struct config *config) {
    int socket = activated->socket, flags = fcntl(socket, F_GETFL);
    listener->is_tls = strcmp(activated->name, "tls") == 0;
    const char *fault = fault_of(listener, socket, config);
    if (!fault && (flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) < 0))
        fault = "cannot be set to not block";
    if (fault) {
        log_error("socket %d of those that the service manager hands over%s%s %s",
                  activated->number, listener->name[0] ? ", " : "", listener->name, fault);
        return -1;
    }
    listener->socket = socket;
    return 0;
}
