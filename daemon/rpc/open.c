/* OPEN: find a session or make one, and learn where it stands. */
#include "daemon/rpc/messages.h"

static uint32_t read_durability(struct rpc_request *request, const Kvq__OpenRequest *message,
                                struct store_open *open, enum session_durability *durability) {
    if (message->durability > KVQ__DURABILITY__DURABILITY_DISK)
        return rpc_fail(request, WIRE_INVALID, "durability is none of Durability");
    *durability = messages_durability(message->durability);
    open->durability = message->durability == KVQ__DURABILITY__DURABILITY_UNSET ? NULL : durability;
    return WIRE_OK;
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

/* What a request's pointers lead to. */
struct asked {
    struct geometry geometry;
    enum session_durability durability;
};

static uint32_t read_geometry(struct rpc_request *request, const Kvq__OpenRequest *message,
                              struct store_open *open, struct geometry *geometry) {
    uint32_t code = WIRE_OK;
    if (!message->geometry)
        return WIRE_OK;
    if ((code = messages_read_geometry(request, message->geometry, geometry)))
        return code;
    open->geometry = geometry;
    if (open->key_summaries && key_summary_bytes(geometry, 1) == 0)
        return rpc_fail(request, WIRE_UNSUPPORTED,
                        "key_summaries: of more than 4096 values of K a token there are none");
    return WIRE_OK;
}

static uint32_t read_request(struct rpc_request *request, const Kvq__OpenRequest *message,
                             struct store_open *open, struct asked *asked) {
    struct messages_quality quality = {message->level, message->min_snr_db, message->policy};
    uint32_t code;
    if ((code = messages_read_name(request, &message->session, &open->session)) ||
        (code = messages_read_model(request, &message->model, &open->model)) ||
        (code = messages_read_quality(request, &quality, &open->policy)) ||
        (code = read_durability(request, message, open, &asked->durability)))
        return code;
    if (message->sharing > KVQ__SHARING__SHARING_BYTES)
        return rpc_fail(request, WIRE_INVALID, "sharing is none of Sharing");
    open->sharing = (enum session_sharing)message->sharing;
    open->key_summaries = message->key_summaries;
    code = read_geometry(request, message, open, &asked->geometry);
    return code ? code : read_mode(request, message, open);
}

/* What became of it; `not_made` if the client asked for a session where there is none, and may not
 * make it. */
static uint32_t answer(struct rpc_request *request, int status, bool not_made) {
    if (status == STORE_WAIT)
        return RPC_LATER;
    if (not_made && request->peer->role < ROLE_WORKER)
        return role_check(request, ROLE_WORKER, "making a session");
    if (not_made)
        return rpc_fail(request, WIRE_READ_ONLY, NULL);
    if (status == STORE_UNSUPPORTED)
        return rpc_fail(
            request, WIRE_UNSUPPORTED,
            "a page's tokens of all layers are more than an eighth of the memory limit");
    if (status == STORE_BUSY)
        return rpc_fail_name(request);
    if (status == STORE_DISK)
        return rpc_fail(request, WIRE_UNSUPPORTED,
                        "durability: the daemon is configured without a disk");
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    if (request->state.created)
        rpc_changed(request);
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_open open = {0};
    struct asked asked;
    const Kvq__OpenRequest *message =
        rpc_unpack(request, &kvq__open_request__descriptor, control, control_bytes);
    uint32_t code = message ? read_request(request, message, &open, &asked) : request->fault.code;
    if (code)
        return code;
    if ((open.mode == STORE_OPEN_NEW || open.durability) &&
        (code = role_check(request, ROLE_WORKER, "making or changing a session")))
        return code;
    bool may_create =
        request->peer->role >= ROLE_WORKER && rpc_allows(request->context->daemon, RPC_ADDS);
    if (!may_create && open.mode == STORE_OPEN_NEW)
        return rpc_fail(request, WIRE_READ_ONLY, NULL);
    bool would_create = !may_create && open.mode == STORE_OPEN_OR_CREATE;
    if (would_create)
        open.mode = STORE_OPEN_EXISTING;
    int status = store_open(request->context->daemon->store, &open, &request->state);
    return answer(request, status, status == STORE_MISS && would_create);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct session_state *state = &request->state;
    struct messages_geometry geometry;
    struct messages_policy policy;
    Kvq__OpenReply reply = KVQ__OPEN_REPLY__INIT;
    messages_write_geometry(&state->geometry, &geometry);
    messages_write_policy(&state->policy, &policy);
    reply.policy = &policy.policy;
    reply.created = state->created;
    reply.version = state->version;
    reply.tokens = state->tokens;
    reply.tail_tokens = state->tail_tokens;
    reply.page_tokens = state->page_tokens;
    reply.level = state->policy.level;
    reply.min_snr_db = state->policy.min_snr_db;
    reply.sharing = (Kvq__Sharing)state->sharing;
    reply.durability = messages_write_durability(state->durability);
    reply.key_summaries = state->key_summaries;
    reply.geometry = &geometry.geometry;
    reply.model = (ProtobufCBinaryData){state->model_bytes, (uint8_t *)state->model};
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_open = {.name = "open", .begin = begin, .step = step};
