/* Connecting: the socket, the hello, and doing both again where a connection is gone. */
#include "client/c/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

enum { SEND_BUFFER_BYTES = 2 << 20, RETRY_NS = 5 * 1000 * 1000 };

static bool is_unix(const struct kvq_client *client) {
    return client->addresses[0].socket.ss_family == AF_UNIX;
}

static int cannot_connect(struct kvq_client *client, struct kvq_connection *connection,
                          int reason) {
    const char *hint = reason == ENOENT || reason == ECONNREFUSED ? "; is kvquantd running?" : "";
    return kvq_break(client, connection, KVQ_CANNOT_CONNECT, "cannot connect to %s: %s%s",
                     client->address, strerror(reason), hint);
}

/* A blocking client's reads sleep in the socket: that saves a poll() for each answer. */
static void be_patient(int socket) {
    struct timeval patience = {.tv_usec = KVQ_CHANNEL_PATIENCE_MS * 1000};
    int off = 0;
    if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0)
        (void)ioctl(socket, FIONBIO, &off);
}

static int open_socket(struct kvq_client *client, struct kvq_connection *connection) {
    int family = client->addresses[connection->address].socket.ss_family;
    int handle = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (handle < 0)
        return cannot_connect(client, connection, errno);
    /* TCP's buffers grow by themselves; a unix socket has as much as the system grants. */
    int bytes = SEND_BUFFER_BYTES, on = 1;
    if (family == AF_UNIX)
        (void)setsockopt(handle, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    else
        (void)setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->channel.socket = handle;
    connection->state = KVQ_CONNECTING;
    connection->retry_ns = 0;
    return KVQ_OK;
}

static int try_next_address(struct kvq_client *client, struct kvq_connection *connection,
                            int reason) {
    size_t next = connection->address + 1;
    if (next >= client->address_count)
        return cannot_connect(client, connection, reason);
    kvq_connection_close(connection);
    connection->address = next;
    return open_socket(client, connection);
}

static int begin_greeting(struct kvq_client *client, struct kvq_connection *connection) {
    connection->state = KVQ_GREETING;
    connection->hello_id = kvq_new_request_id(client);
    kvq_queue_control(connection, WIRE_HELLO, connection->hello_id, client->hello,
                      client->hello_bytes);
    return KVQ_OK;
}

static int begin_securing(struct kvq_client *client, struct kvq_connection *connection) {
    connection->channel.tls = kvq_tls_stream_new(client, connection->channel.socket);
    if (!connection->channel.tls)
        return kvq_break(client, connection, KVQ_NO_MEMORY, "no memory for TLS");
    connection->state = KVQ_SECURING;
    return KVQ_OK;
}

static int secure(struct kvq_client *client, struct kvq_connection *connection) {
    int error = kvq_channel_secure(&connection->channel);
    if (!error)
        return begin_greeting(client, connection);
    return error == KVQ_AGAIN ? error : kvq_lost(client, connection);
}

/* A unix socket connects at once, or the daemon's backlog is full: then it is tried again. TCP
 * says that it is on its way, and by being writable that there is a result, which asking again
 * gives. */
static int finish_connecting(struct kvq_client *client, struct kvq_connection *connection) {
    if (connection->retry_ns && kvq_now_ns() < connection->retry_ns)
        return KVQ_AGAIN;
    const struct kvq_address *address = &client->addresses[connection->address];
    connection->retry_ns = 0;
    if (connect(connection->channel.socket, (const struct sockaddr *)&address->socket,
                address->bytes) == 0 ||
        errno == EISCONN) {
        if (!client->non_blocking)
            be_patient(connection->channel.socket);
        return client->tls ? begin_securing(client, connection)
                           : begin_greeting(client, connection);
    }
    if (errno == EAGAIN)
        connection->retry_ns = kvq_now_ns() + RETRY_NS;
    if (errno == EAGAIN || errno == EINPROGRESS || errno == EALREADY || errno == EINTR)
        return KVQ_AGAIN;
    return try_next_address(client, connection, errno);
}

static int greet(struct kvq_client *client, struct kvq_connection *connection) {
    ProtobufCMessage *reply;
    int error = kvq_send(client, connection, connection->hello_id);
    if (!error)
        error = kvq_receive(client, connection, connection->hello_id);
    if (error)
        return error;
    error = kvq_read_answer(client, connection, &kvq__hello_reply__descriptor, &reply);
    if (error) /* without a hello the connection serves for nothing */
        kvq_connection_close(connection);
    if (error)
        return error;
    const Kvq__HelloReply *hello = (const Kvq__HelloReply *)reply;
    if (hello->version < WIRE_VERSION_MIN || hello->version > WIRE_VERSION_MAX ||
        hello->append_runs_max == 0)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s greets with limits that cannot be", client->address);
    client->append_runs_max = hello->append_runs_max;
    client->role = (enum kvq_role)hello->role;
    snprintf(client->tenant, sizeof client->tenant, "%s", hello->tenant);
    client->append_wait_ms = hello->append_wait_ms;
    connection->state = KVQ_READY;
    return KVQ_OK;
}

static int begin_connecting(struct kvq_client *client, struct kvq_connection *connection) {
    if (client->no_reconnect && !client->call.connecting && connection == client->connections[0])
        return kvq_fail(client, KVQ_CONNECTION_LOST, "the connection to %s is gone; connect anew",
                        client->address);
    connection->address = 0;
    return open_socket(client, connection);
}

/* What was sent last may have gone to a daemon that is no more: TCP tells that late. */
static void drop_stale(const struct kvq_client *client, struct kvq_connection *connection) {
    if (connection->state == KVQ_READY && !is_unix(client) && !client->call.safe &&
        kvq_channel_hung_up(&connection->channel))
        kvq_connection_close(connection);
}

static int connect_further(struct kvq_client *client, struct kvq_connection *connection) {
    switch (connection->state) {
    case KVQ_GONE:
        return begin_connecting(client, connection);
    case KVQ_CONNECTING:
        return finish_connecting(client, connection);
    case KVQ_SECURING:
        return secure(client, connection);
    case KVQ_GREETING:
        return greet(client, connection);
    case KVQ_READY:
        break;
    }
    return kvq_send(client, connection, 0);
}

int kvq_connection_ready(struct kvq_client *client, struct kvq_connection *connection) {
    int error = KVQ_OK;
    connection->busy = true;
    drop_stale(client, connection);
    while (!error && connection->state != KVQ_READY)
        error = connect_further(client, connection);
    if (!error)
        error = connect_further(client, connection);
    if (!error)
        kvq_channel_mark(&connection->channel);
    if (error != KVQ_CANNOT_CONNECT || client->call.connecting)
        return error;
    client->call.may_repeat = client->call.may_repeat && connection != client->connections[0];
    return KVQ_CONNECTION_LOST; /* that is what the caller has to know; the message says more */
}
