/* HELLO: agree on a protocol version and learn the limits. */
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "daemon/rpc/messages.h"

/* What a client calls itself goes into the log: no byte of it may do anything there. */
static void note_client(struct rpc_peer *peer, const char *name) {
    snprintf(peer->client, sizeof peer->client, "%s", name);
    for (char *letter = peer->client; *letter; letter++)
        if (*letter < ' ' || *letter > '~')
            *letter = '?';
}

static uint32_t charge(struct rpc_request *request) {
    struct tenant *tenant = request->peer->tenant;
    if (charge_take(&request->peer->charge, &tenant->connections, 1))
        return WIRE_OK;
    return rpc_fail(request, WIRE_QUOTA,
                    "the tenant %s has as many connections as its quota allows, %llu: close some, "
                    "or have the quota raised",
                    tenant->name, (unsigned long long)atomic_load(&tenant->connections.limit));
}

static uint32_t refuse(struct rpc_request *request, bool has_token) {
    const char *certificate = request->peer->certificate;
    if (has_token)
        return rpc_fail(request, WIRE_UNAUTHENTICATED, "the daemon does not know this token%s",
                        certificate ? " as one of the certificate's tenant" : "");
    if (certificate)
        return rpc_fail(request, WIRE_UNAUTHENTICATED,
                        "no row of the daemon's `tenants` is this certificate's: %s", certificate);
    return rpc_fail(request, WIRE_UNAUTHENTICATED,
                    "no row of the daemon's `tenants` is this user's: a token is needed");
}

/* By the token, where there is one, else as the connection's own side of the socket has it. */
static uint32_t identify(struct rpc_request *request, const ProtobufCBinaryData *token) {
    struct rpc_peer *peer = request->peer;
    if (token->len > 0) {
        SHA256(token->data, token->len, peer->token.bytes);
        explicit_bzero(token->data, token->len);
        peer->has_token = true;
        rpc_identify(request->context->daemon, peer);
    }
    if (peer->tenant && (token->len == 0 || token->len == CREDENTIAL_TOKEN_BYTES))
        return charge(request);
    return refuse(request, token->len > 0);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    const Kvq__HelloRequest *hello =
        rpc_unpack(request, &kvq__hello_request__descriptor, control, control_bytes);
    if (!hello)
        return request->fault.code;
    note_client(request->peer, hello->client);
    if (hello->version_min > WIRE_VERSION_MAX || hello->version_max < WIRE_VERSION_MIN ||
        hello->version_min > hello->version_max)
        return rpc_fail(request, WIRE_VERSION, "this daemon speaks protocol versions %d to %d",
                        WIRE_VERSION_MIN, WIRE_VERSION_MAX);
    return identify(request, &hello->token);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__HelloReply reply = KVQ__HELLO_REPLY__INIT;
    reply.version = WIRE_VERSION_MAX;
    reply.control_bytes_max = WIRE_CONTROL_BYTES_MAX;
    reply.payload_bytes_max = WIRE_PAYLOAD_BYTES_MAX;
    reply.requests_max = WIRE_REQUESTS_MAX;
    reply.append_runs_max = WIRE_APPEND_RUNS_MAX;
    reply.append_wait_ms = request->context->daemon->append_wait_ms;
    reply.server = "kvquantd " KVQUANT_VERSION;
    reply.tenant = request->peer->tenant->name;
    reply.role = (Kvq__Role)request->peer->role;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_hello = {.name = "hello", .begin = begin, .step = step};
