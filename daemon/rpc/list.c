/* LIST: sessions by id, a page of them a request. */
#include "daemon/rpc/messages.h"

enum {
    PAGE_SESSIONS = 64, /* at most some 700 bytes each: they fit a control message */
    PAGE_CHUNKS = 8192, /* that are looked at: a page with long sessions has fewer of them */
};

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    const Kvq__ListRequest *message =
        rpc_unpack(request, &kvq__list_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    request->frame_bytes = WIRE_HEADER_BYTES + WIRE_CONTROL_BYTES_MAX;
    uint32_t code =
        message->all_tenants ? role_check(request, ROLE_ADMIN, "a list of all tenants") : WIRE_OK;
    if (code)
        return code;
    struct rpc_daemon *daemon = request->context->daemon;
    bool all = message->limit == 0 || message->limit > PAGE_SESSIONS;
    request->list = (struct rpc_list){
        .list = message->all_tenants ? &daemon->store->list : &request->peer->tenant->sessions,
        .after_id = message->after_id,
        .limit = all ? (uint32_t)PAGE_SESSIONS : message->limit};
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct wire_arena *arena = &request->context->arena;
    Kvq__ListReply reply = KVQ__LIST_REPLY__INIT;
    Kvq__SessionInfo *entries[PAGE_SESSIONS];
    wire_arena_reset(arena);
    uint64_t chunks = 0;
    struct list *list = request->list.list;
    struct session *session = list_after(list, request->list.after_id);
    for (; session && reply.n_sessions < request->list.limit && chunks < PAGE_CHUNKS;
         session = list_next(list, session)) {
        struct session_info info;
        if (info_read(session, &info) != STORE_OK)
            continue;
        if (!(entries[reply.n_sessions] = messages_write_info(arena, session, &info, false)))
            break;
        reply.n_sessions++;
        chunks += info.chunks;
    }
    reply.more = session != NULL;
    if (session)
        session_unref(session);
    reply.sessions = entries;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_list = {.name = "list", .begin = begin, .step = step};
