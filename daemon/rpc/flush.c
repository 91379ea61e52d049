/* FLUSH: the reply comes when a session, or all that there are, would outlast a loss of power as
 * they were when the request came. */
#include "daemon/rpc/messages.h"

/* With an owned reference. */
static void choose(struct rpc_flush *flush, struct session *session) {
    flush->session = session;
    flush->point = saving_retry(session);
}

/* NULL where the list has none that was there. */
static struct session *find_behind(const struct rpc_flush *flush, uint64_t id) {
    struct session *next = list_after(flush->list, id);
    if (!next || next->id <= flush->last_id)
        return next;
    session_unref(next);
    return NULL;
}

static void begin_list(struct rpc_flush *flush, struct list *list, struct list *ids) {
    flush->list = list;
    flush->last_id = list_last_id(ids);
}

static void choose_behind(struct rpc_request *request, uint64_t id) {
    struct rpc_flush *flush = &request->flush;
    struct tenant *tenant = request->peer->tenant;
    struct session *next = find_behind(flush, id);
    if (!next && flush->list == &tenant->sessions) {
        begin_list(flush, &tenant->chains, &request->context->daemon->store->chains);
        next = find_behind(flush, 0);
    }
    if (next)
        choose(flush, next);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store *store = request->context->daemon->store;
    struct rpc_flush *flush = &request->flush;
    struct store_name name;
    const Kvq__FlushRequest *message =
        rpc_unpack(request, &kvq__flush_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if (!disk_tier_is_on(&store->disk))
        return rpc_fail(request, WIRE_UNSUPPORTED, "the daemon is configured without a disk");
    *flush = (struct rpc_flush){0};
    if (message->session.len == 0) {
        begin_list(flush, &request->peer->tenant->sessions, &store->list);
        choose_behind(request, 0);
        return WIRE_OK;
    }
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    struct session *session = store_find(store, name);
    if (!session)
        return rpc_fail(request, WIRE_MISS, NULL);
    choose(flush, session);
    return WIRE_OK;
}

/* To the next session, after one that is on disk or was deleted meanwhile. */
static void advance(struct rpc_request *request) {
    struct rpc_flush *flush = &request->flush;
    uint64_t id = flush->session->id;
    session_unref(flush->session);
    flush->session = NULL;
    if (flush->list)
        choose_behind(request, id);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct store *store = request->context->daemon->store;
    struct rpc_flush *flush = &request->flush;
    Kvq__FlushReply reply = KVQ__FLUSH_REPLY__INIT;
    if (!flush->session) {
        reply.sessions = flush->sessions;
        return rpc_reply(request, frame, &reply.base);
    }
    int status = saving_step(store, flush->session, flush->point);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status != STORE_OK && !(status == STORE_MISS && flush->list)) {
        rpc_fail_store(request, status, NULL);
        return RPC_FAILED;
    }
    flush->sessions += status == STORE_OK && !session_is_chain(flush->session);
    advance(request);
    return RPC_MORE;
}

static void end(struct rpc_request *request) {
    if (request->flush.session)
        session_unref(request->flush.session);
}

const struct rpc_operation rpc_flush = {.name = "flush", .begin = begin, .step = step, .end = end};
