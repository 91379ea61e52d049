/* Opening, finding and deleting a session. */
#include "client/c/client.h"

#include <stdio.h>
#include <string.h>

void kvq_geometry_from_wire(struct kvq_geometry *geometry, const Kvq__Geometry *wire) {
    *geometry = (struct kvq_geometry){0};
    if (!wire)
        return;
    geometry->layers = wire->layers;
    geometry->heads = wire->heads;
    geometry->head_dim_k = wire->head_dim_k;
    geometry->head_dim_v = wire->head_dim_v;
    geometry->dtype = (enum kvq_dtype)wire->dtype;
    if (wire->rope)
        geometry->rope = (struct kvq_rope){
            .pairing = (enum kvq_pairing)wire->rope->pairing,
            .theta = wire->rope->theta,
            .dims = wire->rope->dims,
            .scaling = wire->rope->scaling,
        };
}

static void geometry_to_wire(const struct kvq_geometry *geometry, Kvq__Geometry *wire,
                             Kvq__Rope *rope) {
    kvq__geometry__init(wire);
    kvq__rope__init(rope);
    wire->layers = geometry->layers;
    wire->heads = geometry->heads;
    wire->head_dim_k = geometry->head_dim_k;
    wire->head_dim_v = geometry->head_dim_v;
    wire->dtype = (Kvq__Dtype)geometry->dtype;
    rope->pairing = (Kvq__Pairing)geometry->rope.pairing;
    rope->theta = geometry->rope.theta;
    rope->dims = geometry->rope.dims;
    rope->scaling = geometry->rope.scaling;
    if (geometry->rope.pairing != KVQ_PAIRING_NONE)
        wire->rope = rope;
}

/* A daemon that reports a session which cannot be would make the client's arithmetic wrong. */
static int check_state(struct kvq_client *client, const struct kvq_session_state *state) {
    const struct kvq_geometry *geometry = &state->geometry;
    uint64_t widest =
        geometry->head_dim_k > geometry->head_dim_v ? geometry->head_dim_k : geometry->head_dim_v;
    unsigned __int128 page_bytes = (unsigned __int128)state->page_tokens * geometry->heads *
                                   widest * kvq_dtype_bytes(geometry->dtype);
    if (page_bytes == 0 || page_bytes > WIRE_PAYLOAD_BYTES_MAX || geometry->layers == 0 ||
        geometry->head_dim_k == 0 || state->tail_tokens >= state->page_tokens)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s reports a session that cannot be; the connection is closed",
                         client->address);
    return KVQ_OK;
}

static void set_limits(const struct kvq_client *client, struct kvq_session_state *state) {
    uint64_t runs = client->append_runs_max > 1 ? client->append_runs_max - 1 : 1;
    state->append_tokens_max = runs * state->page_tokens;
}

static int open_request(struct kvq_client *client, const struct kvq_open_options *options,
                        const Kvq__OpenReply **reply) {
    Kvq__OpenRequest request = KVQ__OPEN_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    Kvq__Level level = KVQ__LEVEL__INIT;
    request.session.data = (uint8_t *)options->session;
    request.session.len = strlen(options->session);
    request.model.data = (uint8_t *)options->model;
    request.model.len = strlen(options->model);
    request.mode = (Kvq__OpenMode)options->mode;
    if (options->geometry) {
        geometry_to_wire(options->geometry, &geometry, &rope);
        request.geometry = &geometry;
    }
    if (options->has_level) {
        level.level = options->level;
        request.level = &level;
    }
    return kvq_request(client, WIRE_OPEN, &request.base, &kvq__open_reply__descriptor,
                       (ProtobufCMessage **)reply);
}

int kvq_open(struct kvq_client *client, const struct kvq_open_options *options,
             struct kvq_session_state *state) {
    struct kvq_open_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "session's name", known.session, KVQ_SESSION_BYTES_MAX);
    if (!error)
        error = kvq_check_name(client, "model's fingerprint", known.model, KVQ_MODEL_BYTES_MAX);
    if (error)
        return error;
    if (!known.geometry && known.mode != KVQ_OPEN_EXISTING)
        return kvq_fail(client, KVQ_ARGUMENT, "a session that may be created needs a geometry");
    const Kvq__OpenReply *reply;
    error = open_request(client, &known, &reply);
    if (error)
        return error;
    struct kvq_session_state opened = {
        .level = reply->level,
        .version = reply->version,
        .tokens = reply->tokens,
        .tail_tokens = reply->tail_tokens,
        .page_tokens = reply->page_tokens,
        .created = reply->created,
    };
    snprintf(opened.session, sizeof opened.session, "%s", known.session);
    snprintf(opened.model, sizeof opened.model, "%s", known.model);
    kvq_geometry_from_wire(&opened.geometry, reply->geometry);
    error = check_state(client, &opened);
    if (error)
        return error;
    set_limits(client, &opened);
    *state = opened;
    return KVQ_OK;
}

int kvq_find(struct kvq_client *client, const char *session, struct kvq_session_state *state) {
    struct kvq_session_info info;
    int error = kvq_info(client, session, &info);
    if (error)
        return error;
    struct kvq_session_state found = {
        .geometry = info.geometry,
        .level = info.level,
        .version = info.version,
        .tokens = info.tokens_available,
        .tail_tokens = info.tail_tokens,
        .page_tokens = info.page_tokens,
    };
    snprintf(found.session, sizeof found.session, "%s", session);
    snprintf(found.model, sizeof found.model, "%s", info.model);
    error = check_state(client, &found);
    if (error)
        return error;
    set_limits(client, &found);
    *state = found;
    return KVQ_OK;
}

int kvq_delete(struct kvq_client *client, const char *session, uint64_t *freed_bytes) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__DeleteRequest request = KVQ__DELETE_REQUEST__INIT;
    request.session.data = (uint8_t *)session;
    request.session.len = strlen(session);
    const Kvq__DeleteReply *reply;
    error = kvq_request(client, WIRE_DELETE, &request.base, &kvq__delete_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (!error && freed_bytes)
        *freed_bytes = reply->freed_bytes;
    return error;
}
