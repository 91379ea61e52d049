/* Finding the daemon's socket, connecting, and the hello. */
#include "client/c/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DEADLINE_MS_DEFAULT = 60000, SEND_BUFFER_BYTES = 2 << 20 };

static int set_address(struct kvq_client *client, const char *address) {
    int length = snprintf(client->address, sizeof client->address, "%s", address);
    if (length < 0 || (size_t)length >= sizeof client->address)
        return kvq_fail(client, KVQ_ARGUMENT, "the socket's path is longer than %zu bytes: %s",
                        sizeof((struct sockaddr_un *)0)->sun_path - 1, address);
    return KVQ_OK;
}

static int find_address(struct kvq_client *client, const char *given) {
    const char *environment = getenv("KVQ_SOCKET");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (given)
        return set_address(client, given);
    if (environment && environment[0])
        return set_address(client, environment);
    if (runtime && runtime[0]) {
        char path[sizeof client->address];
        int length = snprintf(path, sizeof path, "%s/kvquantd.sock", runtime);
        if (length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0)
            return set_address(client, path);
    }
    return set_address(client, "/run/kvquantd/kvquantd.sock");
}

static int check_address(struct kvq_client *client) {
    size_t bytes_max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (!strchr(client->address, '/'))
        return kvq_fail(client, KVQ_ARGUMENT,
                        "\"%s\" means host:port, which this version does not speak; give the path "
                        "of a unix socket, with a '/' in it",
                        client->address);
    if (strlen(client->address) > bytes_max)
        return kvq_fail(client, KVQ_ARGUMENT, "the socket's path is longer than %zu bytes: %s",
                        bytes_max, client->address);
    return KVQ_OK;
}

static int cannot_connect(struct kvq_client *client, int reason) {
    const char *hint = reason == ENOENT || reason == ECONNREFUSED ? "; is kvquantd running?" : "";
    return kvq_break(client, KVQ_CANNOT_CONNECT, "cannot connect to %s: %s%s", client->address,
                     strerror(reason), hint);
}

/* A connection is there at once, or the daemon's backlog is full: then it is tried again. */
static int connect_socket(struct kvq_client *client) {
    enum { RETRY_MS = 5 };
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, client->address, strlen(client->address) + 1);
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (handle < 0)
        return cannot_connect(client, errno);
    client->channel.socket = handle;
    int bytes = SEND_BUFFER_BYTES; /* as much of it as the system grants */
    (void)setsockopt(handle, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    while (connect(handle, (const struct sockaddr *)&address, sizeof address)) {
        if (errno == EAGAIN && kvq_channel_expired(&client->channel))
            return kvq_break(client, KVQ_DEADLINE, "%s takes no connection in time",
                             client->address);
        if (errno != EAGAIN && errno != EINTR)
            return cannot_connect(client, errno);
        poll(NULL, 0, RETRY_MS);
    }
    return KVQ_OK;
}

static int say_hello(struct kvq_client *client, const char *name) {
    Kvq__HelloRequest request = KVQ__HELLO_REQUEST__INIT;
    request.version_min = WIRE_VERSION_MIN;
    request.version_max = WIRE_VERSION_MAX;
    request.client = (char *)name;
    ProtobufCMessage *reply;
    int error =
        kvq_request(client, WIRE_HELLO, &request.base, &kvq__hello_reply__descriptor, &reply);
    if (error)
        return error;
    const Kvq__HelloReply *hello = (const Kvq__HelloReply *)reply;
    if (hello->version < WIRE_VERSION_MIN || hello->version > WIRE_VERSION_MAX ||
        hello->append_runs_max == 0)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL, "%s greets with limits that cannot be",
                         client->address);
    client->append_runs_max = hello->append_runs_max;
    return KVQ_OK;
}

static struct kvq_client *new_client(int64_t deadline_ms) {
    struct kvq_client *client = calloc(1, sizeof *client);
    uint8_t *control = malloc(WIRE_HEADER_BYTES + WIRE_CONTROL_BYTES_MAX);
    void *memory = malloc(KVQ_ARENA_BYTES);
    if (!client || !control || !memory) {
        free(client);
        free(control);
        free(memory);
        return NULL;
    }
    kvq_channel_init(&client->channel);
    wire_arena_init(&client->arena, memory, KVQ_ARENA_BYTES);
    client->control = control;
    client->deadline_ms = deadline_ms ? deadline_ms : DEADLINE_MS_DEFAULT;
    return client;
}

int kvq_connect(const struct kvq_connect_options *options, struct kvq_client **opened) {
    struct kvq_connect_options known = {0};
    if (options)
        kvq_copy_options(&known, sizeof known, options, options->size);
    struct kvq_client *client = *opened = new_client(known.deadline_ms);
    if (!client)
        return KVQ_NO_MEMORY;
    kvq_channel_set_deadline(&client->channel, client->deadline_ms);
    int error = find_address(client, known.socket);
    if (!error)
        error = check_address(client);
    if (!error)
        error = connect_socket(client);
    return error ? error : say_hello(client, known.name ? known.name : "libkvq");
}

void kvq_close(struct kvq_client *client) {
    if (!client)
        return;
    kvq_channel_close(&client->channel);
    free(client->cursors);
    free(client->bounce);
    free(client->control);
    free(client->arena.memory);
    free(client);
}
