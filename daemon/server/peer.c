#include "daemon/server/peer.h"

#include <stdio.h>
#include <sys/socket.h>

#include "daemon/base/address.h"
#include "daemon/server/tls.h"

enum { GROUPS_MAX = 256 };

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

static bool is_local(int socket) {
    int domain = AF_UNSPEC;
    socklen_t bytes = sizeof domain;
    return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 && domain == AF_UNIX;
}

/* Its own group comes first. How many there are. */
static size_t read_groups(int socket, gid_t own, gid_t groups[GROUPS_MAX]) {
    socklen_t bytes = (GROUPS_MAX - 1) * sizeof *groups;
    groups[0] = own;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &bytes) < 0)
        return 1; /* with more of them than that, the others do not count */
    return 1 + bytes / sizeof *groups;
}

static struct identity side_of_socket(int socket, struct credentials *credentials) {
    struct ucred peer;
    gid_t groups[GROUPS_MAX];
    socklen_t bytes = sizeof peer;
    if (!is_local(socket))
        return credentials_of_tcp(credentials);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
        return (struct identity){.role = ROLE_NONE};
    struct local_user user = {
        .user = peer.uid, .groups = groups, .group_count = read_groups(socket, peer.gid, groups)};
    return credentials_of_user(credentials, &user);
}

static struct identity side_of(struct connection *connection) {
    struct credentials *credentials = connection->reactor->context.daemon->credentials;
    uv_os_fd_t socket = -1;
    if (connection->tls)
        return credentials_of_certificate(credentials, &connection->tls->names);
    uv_fileno(&connection->handle, &socket);
    return side_of_socket(socket, credentials);
}

/* The table is noted first: one that comes meanwhile is asked later. */
static void note_side(struct connection *connection) {
    struct rpc_daemon *daemon = connection->reactor->context.daemon;
    connection->peer.table = atomic_load(&daemon->credentials->tables);
    connection->peer.side = side_of(connection);
}

void peer_identify(struct connection *connection) {
    note_side(connection);
    rpc_identify(connection->reactor->context.daemon, &connection->peer);
}

bool peer_is_the_same(struct connection *connection) {
    struct rpc_daemon *daemon = connection->reactor->context.daemon;
    if (connection->peer.table == atomic_load(&daemon->credentials->tables))
        return true;
    note_side(connection);
    return rpc_identify_again(daemon, &connection->peer);
}
