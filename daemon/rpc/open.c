/* OPEN: find a session or make one, and learn where it stands. */
#include "daemon/rpc/messages.h"

/* Decibels alone choose among all levels. */
static int default_level(const struct rpc_request *request, const Kvq__OpenRequest *message) {
    return message->min_snr_db > 0 ? PAGE_LEVEL_MAX : request->context->daemon->default_level;
}

static uint32_t read_policy(struct rpc_request *request, const Kvq__OpenRequest *message,
                            struct session_policy *policy) {
    policy->level = message->level ? message->level->level : default_level(request, message);
    policy->min_snr_db = message->min_snr_db;
    if (!(policy->min_snr_db >= 0 && policy->min_snr_db <= WIRE_SNR_DB_MAX))
        return rpc_fail(request, WIRE_INVALID, "min_snr_db is 0 (none) to %d", WIRE_SNR_DB_MAX);
    return messages_check_level(request, policy->level);
}

static uint32_t read_mode(struct rpc_request *request, const Kvq__OpenRequest *message,
                          struct store_open *open) {
    switch (message->mode) {
    case KVQ__OPEN_MODE__OPEN_OR_CREATE:
        open->mode = STORE_OPEN_OR_CREATE;
        break;
    case KVQ__OPEN_MODE__OPEN_EXISTING:
        open->mode = STORE_OPEN_EXISTING;
        return WIRE_OK;
    case KVQ__OPEN_MODE__OPEN_NEW:
        open->mode = STORE_OPEN_NEW;
        break;
    default:
        return rpc_fail(request, WIRE_INVALID, "mode is none of OpenMode");
    }
    if (open->model.bytes == 0 || !open->geometry)
        return rpc_fail(request, WIRE_INVALID, "a session is created with a model and a geometry");
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_open open = {0};
    struct geometry geometry;
    uint32_t code;
    const Kvq__OpenRequest *message =
        rpc_unpack(request, &kvq__open_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if ((code = messages_read_name(request, &message->session, &open.session)) ||
        (code = messages_read_model(request, &message->model, &open.model)) ||
        (code = read_policy(request, message, &open.policy)))
        return code;
    if (message->geometry) {
        if ((code = messages_read_geometry(request, message->geometry, &geometry)))
            return code;
        open.geometry = &geometry;
    }
    if ((code = read_mode(request, message, &open)))
        return code;
    int status = store_open(request->context->daemon->store, &open, &request->state);
    if (status == STORE_UNSUPPORTED)
        return rpc_fail(
            request, WIRE_UNSUPPORTED,
            "a page's tokens of all layers are more than an eighth of the memory limit");
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    if (request->state.created)
        rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct session_state *state = &request->state;
    struct messages_geometry geometry;
    Kvq__OpenReply reply = KVQ__OPEN_REPLY__INIT;
    messages_write_geometry(&state->geometry, &geometry);
    reply.created = state->created;
    reply.version = state->version;
    reply.tokens = state->tokens;
    reply.tail_tokens = state->tail_tokens;
    reply.page_tokens = state->page_tokens;
    reply.level = state->policy.level;
    reply.min_snr_db = state->policy.min_snr_db;
    reply.geometry = &geometry.geometry;
    reply.model = (ProtobufCBinaryData){state->model_bytes, (uint8_t *)state->model};
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_open = {.name = "open", .begin = begin, .step = step};
