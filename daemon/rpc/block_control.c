/* BLOCK_CONTROL: which blocks are there; keeps them there for a while, uses or deletes them. */
#include <assert.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

#define LEASE_MS_MAX (UINT64_MAX / CLOCK_NS_PER_MS / 2)

static_assert((int)KVQ__BLOCK_ACTION__BLOCK_TOUCH == BLOCK_TOUCH, "actions are the same numbers");
static_assert((int)KVQ__BLOCK_ACTION__BLOCK_DELETE == BLOCK_DELETE, "actions are the same numbers");

static uint32_t check(struct rpc_request *request, const Kvq__BlockControlRequest *message) {
    if (message->action > KVQ__BLOCK_ACTION__BLOCK_DELETE)
        return rpc_fail(request, WIRE_INVALID, "action is none of BlockAction");
    if (message->lease_ms > LEASE_MS_MAX)
        return rpc_fail(request, WIRE_INVALID, "a lease is at most %llu ms",
                        (unsigned long long)LEASE_MS_MAX);
    if (message->action == KVQ__BLOCK_ACTION__BLOCK_DELETE && message->lease_ms > 0)
        return rpc_fail(request, WIRE_INVALID, "what is deleted has no lease");
    if (message->action == KVQ__BLOCK_ACTION__BLOCK_DELETE &&
        !rpc_allows(request->context->daemon, RPC_CHANGES))
        return rpc_fail(request, WIRE_READ_ONLY, NULL);
    return WIRE_OK;
}

static uint64_t tokens_bytes(const struct rpc_block_act *act) {
    return (act->key_count + 1) * sizeof *act->tokens;
}

static bool hold_tokens(struct rpc_request *request, struct rpc_block_act *act) {
    struct budget *budget = request->context->daemon->budget;
    if (!budget_reserve(budget, tokens_bytes(act)))
        return false;
    act->tokens = calloc(1, tokens_bytes(act));
    if (!act->tokens)
        budget_release(budget, tokens_bytes(act));
    return act->tokens != NULL;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct messages_block_space space;
    uint32_t code;
    const Kvq__BlockControlRequest *message =
        rpc_unpack(request, &kvq__block_control_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_blocks blocks = {message->model, message->geometry, message->keys,
                                     message->n_keys};
    if ((code = check(request, message)) || (code = messages_read_blocks(request, &blocks, &space)))
        return code;
    struct rpc_block_act *act = &request->block_act;
    *act = (struct rpc_block_act){.key_count = message->n_keys,
                                  .page_tokens = geometry_page_tokens(&space.geometry)};
    if (!hold_tokens(request, act))
        return rpc_fail_store(request, STORE_FULL, NULL);
    for (size_t i = 0; i < act->key_count; i++) {
        struct block_key key = messages_block_key(&space, i);
        act->tokens[i] =
            block_act(request->context->daemon->store, &key, (enum block_action)message->action,
                      message->lease_ms * CLOCK_NS_PER_MS);
    }
    if (message->action == KVQ__BLOCK_ACTION__BLOCK_DELETE)
        rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_block_act *act = &request->block_act;
    Kvq__BlockControlReply reply = KVQ__BLOCK_CONTROL_REPLY__INIT;
    reply.n_tokens = act->key_count;
    reply.tokens = act->tokens;
    reply.page_tokens = act->page_tokens;
    while (reply.leading < act->key_count && act->tokens[reply.leading] > 0)
        reply.leading++;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    struct rpc_block_act *act = &request->block_act;
    budget_release(request->context->daemon->budget, tokens_bytes(act));
    free(act->tokens);
}

const struct rpc_operation rpc_block_control = {
    .name = "block_control", .begin = begin, .step = step, .end = end};
