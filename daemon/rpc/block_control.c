/* BLOCK_CONTROL: which blocks are there; keeps them there for a while, uses or deletes them. What
 * is deleted would not come back after a restart by the time of the reply. */
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

#define LEASE_MS_MAX (UINT64_MAX / CLOCK_NS_PER_MS / 2)

static bool is_delete(const Kvq__BlockControlRequest *message) {
    return message->action == KVQ__BLOCK_ACTION__BLOCK_DELETE;
}

static uint32_t check(struct rpc_request *request, const Kvq__BlockControlRequest *message) {
    if (message->action > KVQ__BLOCK_ACTION__BLOCK_DELETE)
        return rpc_fail(request, WIRE_INVALID, "action is none of BlockAction");
    if (message->lease_ms > LEASE_MS_MAX)
        return rpc_fail(request, WIRE_INVALID, "a lease is at most %llu ms",
                        (unsigned long long)LEASE_MS_MAX);
    if (is_delete(message) && message->lease_ms > 0)
        return rpc_fail(request, WIRE_INVALID, "what is deleted has no lease");
    if (is_delete(message) && !rpc_allows(request->context->daemon, RPC_CHANGES))
        return rpc_fail(request, WIRE_READ_ONLY, NULL);
    bool only_asks = message->action == KVQ__BLOCK_ACTION__BLOCK_EXISTS && message->lease_ms == 0;
    return only_asks ? WIRE_OK : role_check(request, ROLE_WORKER, "keeping or deleting a block");
}

static uint64_t held_bytes(const struct rpc_block_act *act) {
    uint64_t tokens_bytes = (act->key_count + 1) * sizeof *act->tokens;
    return tokens_bytes + (act->is_delete ? act->key_count * sizeof *act->deletions : 0);
}

/* Deletions have the larger alignment. */
static bool hold(struct rpc_request *request, struct rpc_block_act *act) {
    struct budget *budget = request->context->daemon->budget;
    if (!budget_reserve(budget, held_bytes(act)))
        return false;
    act->deletions = calloc(1, held_bytes(act));
    if (!act->deletions)
        budget_release(budget, held_bytes(act));
    act->tokens = (uint32_t *)(act->deletions + (act->is_delete ? act->key_count : 0));
    return act->deletions != NULL;
}

static void act_on(struct rpc_request *request, const Kvq__BlockControlRequest *message,
                   const struct block_key *key, size_t index) {
    struct rpc_block_act *act = &request->block_act;
    struct store *store = request->context->daemon->store;
    if (!act->is_delete) {
        bool use = message->action == KVQ__BLOCK_ACTION__BLOCK_TOUCH;
        act->tokens[index] = block_exists(store, key, use, message->lease_ms * CLOCK_NS_PER_MS);
        return;
    }
    block_delete(store, key, &act->deletions[index]);
    act->tokens[index] = act->deletions[index].tokens;
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
                                  .page_tokens = geometry_page_tokens(&space.geometry),
                                  .is_delete = is_delete(message)};
    if (!hold(request, act))
        return rpc_fail_store(request, STORE_FULL, NULL);
    for (size_t i = 0; i < act->key_count; i++) {
        struct block_key key = messages_block_key(&space, i);
        act_on(request, message, &key, i);
    }
    request->irrevocable = act->is_delete;
    if (act->is_delete)
        rpc_changed(request);
    return WIRE_OK;
}

/* STORE_OK once it would not come back. */
static int settle(struct store *store, const struct block_deletion *deletion) {
    if (deletion->stays_on_disk)
        return STORE_DISK;
    if (deletion->promise)
        return disk_promise_status(deletion->promise);
    if (!deletion->chain)
        return STORE_OK;
    int status = saving_step(store, deletion->chain, deletion->point);
    return status == STORE_MISS ? STORE_OK : status;
}

/* The same of all that were asked for, and of those with a chain that was evicted just before. */
static int settle_all(struct store *store, struct rpc_block_act *act) {
    int status = STORE_OK;
    while (act->is_delete && act->settled < act->key_count && status == STORE_OK) {
        status = settle(store, &act->deletions[act->settled]);
        act->settled += status == STORE_OK;
    }
    if (!act->is_delete || status != STORE_OK || atomic_load(&store->disk.chain_deletes) == 0)
        return status;
    if (!act->others)
        act->others = disk_tier_sync(&store->disk);
    return act->others ? disk_promise_status(act->others) : STORE_DISK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_block_act *act = &request->block_act;
    Kvq__BlockControlReply reply = KVQ__BLOCK_CONTROL_REPLY__INIT;
    int status = settle_all(request->context->daemon->store, act);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status != STORE_OK) {
        rpc_fail_store(request, status, NULL);
        return RPC_FAILED;
    }
    reply.n_tokens = act->key_count;
    reply.tokens = act->tokens;
    reply.page_tokens = act->page_tokens;
    while (reply.leading < act->key_count && act->tokens[reply.leading] > 0)
        reply.leading++;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    struct rpc_block_act *act = &request->block_act;
    for (size_t i = 0; act->is_delete && i < act->key_count; i++) {
        if (act->deletions[i].chain)
            session_unref(act->deletions[i].chain);
        if (act->deletions[i].promise)
            disk_promise_release(act->deletions[i].promise);
    }
    if (act->others)
        disk_promise_release(act->others);
    budget_release(request->context->daemon->budget, held_bytes(act));
    free(act->deletions);
}

const struct rpc_operation rpc_block_control = {
    .name = "block_control", .begin = begin, .step = step, .end = end};
