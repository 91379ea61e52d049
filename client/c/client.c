/* Opening and closing a client, and what all calls use. */
#include "client/c/client.h"
#include "client/c/token.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { DEADLINE_MS_DEFAULT = 60000, NAME_BYTES_MAX = 255 };

int kvq_fail(struct kvq_client *client, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->message, sizeof client->message, format, arguments);
    va_end(arguments);
    return error;
}

uint32_t kvq_new_request_id(struct kvq_client *client) {
    if (++client->next_request_id == 0)
        client->next_request_id = 1; /* 0 is the connection's own */
    return client->next_request_id;
}

void kvq_copy_options(void *options, size_t options_bytes, const void *given, size_t given_bytes) {
    size_t common = given_bytes < options_bytes ? given_bytes : options_bytes;
    memset(options, 0, options_bytes);
    memcpy(options, given, common);
}

int kvq_check_name(struct kvq_client *client, const char *what, const char *name,
                   size_t bytes_max) {
    if (!name || !name[0])
        return kvq_fail(client, KVQ_ARGUMENT, "the %s is empty", what);
    if (strnlen(name, bytes_max + 1) > bytes_max)
        return kvq_fail(client, KVQ_ARGUMENT, "the %s is longer than %zu bytes", what, bytes_max);
    return KVQ_OK;
}

ProtobufCBinaryData kvq_text(const char *string) {
    size_t bytes = string ? strlen(string) : 0;
    return (ProtobufCBinaryData){.len = bytes, .data = bytes ? (uint8_t *)string : NULL};
}

const char *kvq_lend_string(struct kvq_client *client, const ProtobufCBinaryData *bytes) {
    char *copy = wire_arena_alloc(&client->arena, bytes->len + 1);
    if (!copy)
        return "";
    if (bytes->len)
        memcpy(copy, bytes->data, bytes->len);
    return copy;
}

struct kvq_loss kvq_loss_from_wire(const Kvq__Loss *wire) {
    if (!wire)
        return (struct kvq_loss){0};
    return (struct kvq_loss){wire->error, wire->energy, wire->estimated};
}

const char *kvq_client_message(const struct kvq_client *client) {
    return client->message;
}

const char *kvq_client_socket(const struct kvq_client *client) {
    return client->address;
}

size_t kvq_connections_worth(const struct kvq_client *client, uint64_t tokens, uint32_t page_tokens,
                             uint64_t token_bytes, uint64_t bytes_min) {
    uint64_t tokens_min = bytes_min / (token_bytes + 1) + 1;
    if (tokens_min < page_tokens)
        tokens_min = page_tokens;
    uint64_t worth = tokens / tokens_min;
    if (worth < 2)
        return 1;
    return worth < client->connections_max ? worth : client->connections_max;
}

void kvq_set_deadline(struct kvq_client *client, int64_t deadline_ms) {
    client->deadline_ms = deadline_ms ? deadline_ms : DEADLINE_MS_DEFAULT;
}

bool kvq_client_connected(const struct kvq_client *client) {
    return client->connections[0]->state == KVQ_READY;
}

const char *kvq_client_tenant(const struct kvq_client *client) {
    return client->tenant;
}

enum kvq_role kvq_client_role(const struct kvq_client *client) {
    return client->role;
}

/* ---- Opening and closing ---- */

static struct kvq_client *new_client(const struct kvq_connect_options *options) {
    struct kvq_client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->watcher = -1;
    client->non_blocking = options->non_blocking;
    client->no_reconnect = options->no_reconnect;
    client->connections_max = options->connections ? options->connections : 1;
    kvq_set_deadline(client, options->deadline_ms);
    void *memory = malloc(KVQ_ARENA_BYTES);
    wire_arena_init(&client->arena, memory, KVQ_ARENA_BYTES);
    client->connections[0] = kvq_connection_new();
    if (client->non_blocking)
        client->watcher = epoll_create1(EPOLL_CLOEXEC);
    if (memory && client->connections[0] && (!client->non_blocking || client->watcher >= 0))
        return client;
    kvq_close(client);
    return NULL;
}

static int prepare_hello(struct kvq_client *client, const struct kvq_connect_options *options) {
    const char *name = options->name ? options->name : "libkvq";
    Kvq__HelloRequest request = KVQ__HELLO_REQUEST__INIT;
    uint8_t token[KVQ_TOKEN_BYTES];
    request.token.data = token;
    if (strnlen(name, NAME_BYTES_MAX + 1) > NAME_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "the client's name is longer than %d bytes",
                        NAME_BYTES_MAX);
    request.version_min = WIRE_VERSION_MIN;
    request.version_max = WIRE_VERSION_MAX;
    request.client = (char *)name;
    int error = kvq_find_token(client, options, token, &request.token.len);
    if (!error)
        client->hello_bytes = protobuf_c_message_pack(&request.base, client->hello);
    explicit_bzero(token, sizeof token);
    return error;
}

static int connect_step(struct kvq_client *client) {
    return kvq_connection_ready(client, client->connections[0]);
}

static void connect_leave(struct kvq_client *client) {
    kvq_connection_close(client->connections[0]);
}

int kvq_connect(const struct kvq_connect_options *options, struct kvq_client **opened) {
    struct kvq_connect_options known = {0};
    if (options)
        kvq_copy_options(&known, sizeof known, options, options->size);
    struct kvq_client *client = *opened = new_client(&known);
    if (!client)
        return KVQ_NO_MEMORY;
    if (client->connections_max > KVQ_CONNECTIONS_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a client has at most %d connections",
                        KVQ_CONNECTIONS_MAX);
    int error = kvq_find_addresses(client, known.socket);
    if (!error)
        error = kvq_find_tls(client, &known);
    if (!error)
        error = prepare_hello(client, &known);
    if (!error)
        error = kvq_begin_call(client, 0);
    if (error)
        return error;
    client->call.may_repeat = false;
    client->call.connecting = true;
    return kvq_run_call(client, connect_step, connect_leave);
}

void kvq_close(struct kvq_client *client) {
    if (!client)
        return;
    for (size_t i = 0; i < KVQ_CONNECTIONS_MAX; i++)
        kvq_connection_free(client->connections[i]);
    kvq_tls_free(client->tls);
    if (client->watcher >= 0)
        close(client->watcher);
    kvq_drop_attachment(client);
    free(client->cursors);
    free(client->arena.memory);
    explicit_bzero(client->hello, sizeof client->hello); /* there may be a token in it */
    free(client);
}
