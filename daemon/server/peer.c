#include "daemon/server/peer.h"

#include <stdio.h>
#include <sys/socket.h>

#include "daemon/base/address.h"

void peer_describe(int socket, char *text, size_t bytes) {
    struct ucred credentials;
    union address address = {0};
    socklen_t credentials_bytes = sizeof credentials, address_size = sizeof address;
    char name[ADDRESS_TEXT_BYTES] = "";
    if (getpeername(socket, &address.any, &address_size) == 0 && address.any.sa_family != AF_UNIX)
        address_write(&address, name);
    else if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_bytes) == 0)
        snprintf(name, sizeof name, "pid %d, uid %u", credentials.pid, credentials.uid);
    snprintf(text, bytes, "%s", name);
}
