/* Opening, finding and deleting a session. */
#include "client/c/client.h"

#include <stdio.h>

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

void kvq_geometry_to_wire(const struct kvq_geometry *geometry, Kvq__Geometry *wire,
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
        return kvq_impossible(client, "a session");
    return KVQ_OK;
}

static void set_limits(const struct kvq_client *client, struct kvq_session_state *state) {
    uint64_t runs = client->append_runs_max > 1 ? client->append_runs_max - 1 : 1;
    state->append_tokens_max = runs * state->page_tokens;
}

static int finish_open(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__OpenReply *reply = (const Kvq__OpenReply *)message;
    struct kvq_session_state *opened = &client->call.request.state;
    opened->level = reply->level;
    opened->min_snr_db = reply->min_snr_db;
    opened->version = reply->version;
    opened->tokens = reply->tokens;
    opened->tail_tokens = reply->tail_tokens;
    opened->page_tokens = reply->page_tokens;
    opened->created = reply->created;
    kvq_geometry_from_wire(&opened->geometry, reply->geometry);
    int error = check_state(client, opened);
    if (error)
        return error;
    set_limits(client, opened);
    *(struct kvq_session_state *)client->call.request.result = *opened;
    return KVQ_OK;
}

/* Twice is as good as once where the session may exist: the second finds what the first made. */
static int open_request(struct kvq_client *client, const struct kvq_open_options *options,
                        struct kvq_session_state *state) {
    Kvq__OpenRequest request = KVQ__OPEN_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    Kvq__Level level = KVQ__LEVEL__INIT;
    struct kvq_policy_message policy;
    request.session = kvq_text(options->session);
    request.model = kvq_text(options->model);
    request.mode = (Kvq__OpenMode)options->mode;
    request.min_snr_db = options->min_snr_db;
    request.sharing = (Kvq__Sharing)options->sharing;
    request.durability = (Kvq__Durability)options->durability;
    request.key_summaries = options->key_summaries;
    request.policy = kvq_policy_to_wire(options->policy, &policy);
    if (options->geometry) {
        kvq_geometry_to_wire(options->geometry, &geometry, &rope);
        request.geometry = &geometry;
    }
    if (options->has_level) {
        level.level = options->level;
        request.level = &level;
    }
    return kvq_request(client, WIRE_OPEN, options->mode != KVQ_OPEN_NEW, &request.base,
                       &kvq__open_reply__descriptor, finish_open, state);
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
    struct kvq_session_state *opened = &client->call.request.state;
    *opened = (struct kvq_session_state){0};
    snprintf(opened->session, sizeof opened->session, "%s", known.session);
    snprintf(opened->model, sizeof opened->model, "%s", known.model);
    return open_request(client, &known, state);
}

static int finish_find(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__SessionInfo *info = (const Kvq__SessionInfo *)message;
    struct kvq_session_state *found = &client->call.request.state;
    found->level = info->level;
    found->min_snr_db = info->min_snr_db;
    found->version = info->version;
    found->tokens = info->tokens_available;
    found->tail_tokens = info->tail_tokens;
    found->page_tokens = info->page_tokens;
    kvq_geometry_from_wire(&found->geometry, info->geometry);
    snprintf(found->model, sizeof found->model, "%s", kvq_lend_string(client, &info->model));
    int error = check_state(client, found);
    if (error)
        return error;
    set_limits(client, found);
    *(struct kvq_session_state *)client->call.request.result = *found;
    return KVQ_OK;
}

int kvq_find(struct kvq_client *client, const char *session, struct kvq_session_state *state) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    struct kvq_session_state *found = &client->call.request.state;
    *found = (struct kvq_session_state){0};
    snprintf(found->session, sizeof found->session, "%s", session);
    Kvq__InfoRequest request = KVQ__INFO_REQUEST__INIT;
    request.session = kvq_text(session);
    return kvq_request(client, WIRE_INFO, true, &request.base, &kvq__session_info__descriptor,
                       finish_find, state);
}

static int finish_delete(struct kvq_client *client, const ProtobufCMessage *message) {
    uint64_t *freed_bytes = client->call.request.result;
    if (freed_bytes)
        *freed_bytes = ((const Kvq__DeleteReply *)message)->freed_bytes;
    return KVQ_OK;
}

int kvq_delete(struct kvq_client *client, const char *session, uint64_t *freed_bytes) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__DeleteRequest request = KVQ__DELETE_REQUEST__INIT;
    request.session = kvq_text(session);
    return kvq_request(client, WIRE_DELETE, false, &request.base, &kvq__delete_reply__descriptor,
                       finish_delete, freed_bytes);
}
