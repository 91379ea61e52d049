/* DELETE_MANY: delete the sessions that a filter lets through, or count what that would free.
 *
 * The happy path: begin -> step over the list of sessions by id, up to the last that there was at
 * the beginning, freeing what one held before looking at the next -> reply. Cancelled or cut off on
 * the way, what was deleted stays deleted.
 */
#include <string.h>

#include "daemon/rpc/messages.h"

enum { STEP_SESSIONS = 64 }; /* so many are looked at in one step */

static bool has_condition(const struct session_filter *filter) {
    return filter->prefix.bytes > 0 || filter->model.bytes > 0 || filter->idle_ms > 0 ||
           filter->age_ms > 0;
}

/* The message is gone after begin. */
static struct store_name keep(char *memory, struct store_name name) {
    if (name.bytes > 0)
        memcpy(memory, name.text, name.bytes);
    return (struct store_name){.text = memory, .bytes = name.bytes};
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_delete_many *many = &request->many;
    const Kvq__DeleteManyRequest *message =
        rpc_unpack(request, &kvq__delete_many_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct store_name model,
        prefix = {.text = (const char *)message->prefix.data, .bytes = message->prefix.len};
    uint32_t code = messages_read_model(request, &message->model, &model);
    if (code)
        return code;
    if (prefix.bytes > WIRE_SESSION_BYTES_MAX)
        return rpc_fail(request, WIRE_INVALID, "a prefix is at most 255 bytes");
    request->discard = (struct rpc_discard){0};
    *many =
        (struct rpc_delete_many){.dry_run = message->dry_run,
                                 .last_id = list_last_id(&request->context->daemon->store->list)};
    many->filter = (struct session_filter){.prefix = keep(many->prefix, prefix),
                                           .model = keep(many->model, model),
                                           .idle_ms = message->idle_ms,
                                           .age_ms = message->age_ms,
                                           .pinned_too = message->pinned_too};
    return has_condition(&many->filter)
               ? WIRE_OK
               : rpc_fail(request, WIRE_INVALID, "prefix, model, idle_ms or age_ms must be given");
}

/* True if it is one of them. */
static bool count_only(struct rpc_delete_many *many, struct session *session) {
    struct session_info info;
    pthread_mutex_lock(session->lock);
    bool passes = !session->deleted && store_filter_passes(&many->filter, session);
    pthread_mutex_unlock(session->lock);
    if (!passes || info_read(session, &info) != STORE_OK)
        return false;
    many->sessions++;
    many->freed_bytes += info.unique_bytes;
    return true;
}

static bool delete_one(struct rpc_request *request, struct session *session) {
    struct rpc_delete_many *many = &request->many;
    int status = store_delete_session(request->context->daemon->store, session, &many->filter,
                                      &request->discard.discard);
    many->any_left |= status == STORE_FULL;
    if (status != STORE_OK)
        return false;
    many->sessions++;
    rpc_changed(request);
    return true;
}

/* Looks at the next sessions until one is found. False at the end. */
static bool go_on(struct rpc_request *request) {
    struct list *list = &request->peer->tenant->sessions;
    struct rpc_delete_many *many = &request->many;
    struct session *session = list_after(list, many->after_id);
    bool found = false;
    for (int i = 0; session && session->id <= many->last_id && i < STEP_SESSIONS && !found; i++) {
        many->after_id = session->id;
        found = many->dry_run ? count_only(many, session) : delete_one(request, session);
        session = list_next(list, session);
    }
    bool more = session && session->id <= many->last_id;
    if (session)
        session_unref(session);
    return more || found;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_delete_many *many = &request->many;
    Kvq__DeleteManyReply reply = KVQ__DELETE_MANY_REPLY__INIT;
    enum rpc_step status = rpc_discard_step(request);
    if (status != RPC_DONE)
        return status;
    many->freed_bytes += request->discard.freed_bytes;
    request->discard.freed_bytes = 0;
    if (go_on(request))
        return RPC_MORE;
    if (many->any_left) {
        rpc_fail_store(request, STORE_FULL, NULL);
        return RPC_FAILED;
    }
    reply.sessions = many->sessions;
    reply.freed_bytes = many->freed_bytes;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_delete_many = {.name = "delete_many",
                                              .effect = RPC_CHANGES,
                                              .begin = begin,
                                              .step = step,
                                              .end = rpc_discard_end};
