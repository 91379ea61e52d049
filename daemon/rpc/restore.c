/* RESTORE: take a session out of a dump, and let it be found at COMMIT.
 *
 * The happy path: begin -> data as it comes -> commit -> step until what it replaces would not come
 * back, and it is on disk, where it is to be -> reply. Possible failure modes are: a session of the
 * name exists (refused, at begin or at COMMIT), what is no dump, or a damaged one (refused), the
 * memory limit (waits, then refused), the disk (of a session that wants to be there: then it is in
 * memory only), the client gone or cancelling (end drops everything).
 */
#include "daemon/rpc/messages.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/store/restoring.h"
#include "proto/wire/dump.h"

struct rpc_restore {
    struct wire_dump_reader reader;
    struct restoring *restoring;
    uint64_t frame_taken; /* of the frame that waits for memory */
    uint32_t parts;
    uint64_t part_start; /* of all bytes */
    bool ended, passes;  /* passes: what the part at hand holds is not the store's */
    size_t passed;
    uint8_t totals[WIRE_DUMP_END_BYTES];
    struct session_state result;
    struct disk_promise *replaced; /* the delete of what was replaced; NULL: none */
};

static uint32_t fail(struct rpc_request *request, int status) {
    switch (status) {
    case STORE_UNSUPPORTED:
        return rpc_fail(
            request, WIRE_UNSUPPORTED,
            "a page's tokens of all layers are more than an eighth of the memory limit");
    case STORE_BUSY:
        return rpc_fail_name(request);
    case STORE_INCOMPLETE:
        return rpc_fail(request, WIRE_INCOMPLETE, "the dump was committed before all of it came");
    default:
        return rpc_fail_store(request, status, NULL);
    }
}

static uint32_t fail_damaged(struct rpc_request *request) {
    const struct rpc_restore *state = request->append.restore;
    return rpc_fail(request, WIRE_INVALID,
                    "the dump is damaged, or none: in the part that begins at byte %llu",
                    (unsigned long long)state->part_start);
}

/* What an admin names is made. */
static uint32_t read_tenant(struct rpc_request *request, const char *text,
                            struct store_name *name) {
    struct tenants *tenants = &request->context->daemon->store->tenants;
    if (text[0] && tenant_is_name(text, strlen(text)) && request->peer->role >= ROLE_ADMIN &&
        !tenants_find(tenants, text, strlen(text)))
        return fail(request, STORE_FULL);
    return messages_read_tenant(request, text, name);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct restoring_request wanted = {0};
    const Kvq__RestoreRequest *message =
        rpc_unpack(request, &kvq__restore_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code;
    if ((code = messages_read_name(request, &message->session, &wanted.session)) ||
        (code = read_tenant(request, message->tenant, &wanted.session)))
        return code;
    wanted.replace = message->replace;
    struct rpc_restore *state = aligned_alloc(alignof(struct rpc_restore), sizeof *state);
    if (!state)
        return fail(request, STORE_FULL);
    *state = (struct rpc_restore){0};
    int status = restoring_begin(daemon->store, &wanted, &state->restoring);
    if (status != STORE_OK) {
        free(state);
        return fail(request, status);
    }
    request->append = (struct rpc_append){.wait_ns = rpc_memory_wait_ns(request, message->wait_ms),
                                          .restore = state};
    return WIRE_OK;
}

/* --- parts --- */

/* Whether the names that the dump gives may be ours. */
static bool has_names(const struct manifest *manifest) {
    const struct session_names *names = &manifest->names;
    struct attachment_spec spec;
    bool all = messages_is_plain(names->model, names->model_bytes);
    for (size_t at = 0; manifest_next_attachment(manifest, &at, &spec);)
        all &= messages_is_plain(spec.name, spec.name_bytes);
    return all;
}

/* Parts have numbers without gaps; the first and the last are not the store's. */
static int begin_part(struct rpc_restore *state) {
    const struct wire_dump_part *part = &state->reader.part;
    if (state->ended || part->number != state->parts ||
        (part->kind == WIRE_DUMP_SESSION) != (part->number == 0))
        return STORE_INVALID;
    state->passes = part->kind == WIRE_DUMP_SESSION || part->kind == WIRE_DUMP_END;
    state->passed = 0;
    if (!state->passes)
        return restoring_part(state->restoring, (enum dump_kind)part->kind, part->bytes);
    uint64_t most = part->kind == WIRE_DUMP_END ? WIRE_DUMP_END_BYTES : WIRE_DUMP_SESSION_BYTES_MAX;
    return part->bytes <= most ? STORE_OK : STORE_INVALID;
}

static int hold(struct rpc_restore *state, const struct wire_dump_bytes *held, void *workspace) {
    if (!state->passes)
        return restoring_put(state->restoring, held->start, held->count, workspace);
    if (state->reader.part.kind == WIRE_DUMP_END)
        memcpy(state->totals + state->passed, held->start, held->count);
    state->passed += held->count;
    return STORE_OK;
}

static int end_session(struct rpc_restore *state) {
    struct wire_dump_totals totals = wire_dump_read_totals(state->totals);
    state->ended = true;
    return state->passed == WIRE_DUMP_END_BYTES && totals.parts == state->parts &&
                   totals.bytes == state->part_start
               ? STORE_OK
               : STORE_INVALID;
}

static int end_part(struct rpc_restore *state) {
    enum wire_dump_kind kind = state->reader.part.kind;
    int status = STORE_OK;
    if (kind == WIRE_DUMP_END)
        status = end_session(state);
    else if (!state->passes)
        status = restoring_part_end(state->restoring);
    if (status == STORE_OK && kind == WIRE_DUMP_MANIFEST &&
        !has_names(restoring_manifest(state->restoring)))
        status = STORE_INVALID;
    if (status != STORE_OK)
        return status;
    state->parts++;
    state->part_start = state->reader.bytes;
    return STORE_OK;
}

/* Up to the next event, or not at all with STORE_FULL. */
static int take_some(struct rpc_restore *state, const uint8_t *bytes, size_t count, size_t *taken,
                     void *workspace) {
    struct wire_dump_reader before = state->reader;
    struct wire_dump_bytes held;
    int status = STORE_INVALID;
    switch (wire_dump_read(&state->reader, bytes, count, taken, &held)) {
    case WIRE_DUMP_MORE:
        return STORE_OK;
    case WIRE_DUMP_BEGINS:
        status = begin_part(state);
        break;
    case WIRE_DUMP_HOLDS:
        status = hold(state, &held, workspace);
        break;
    case WIRE_DUMP_ENDS:
        status = end_part(state);
        break;
    case WIRE_DUMP_NEWER:
        return STORE_VERSION_CHANGED;
    default:
        break;
    }
    if (status == STORE_FULL) {
        state->reader = before;
        *taken = 0;
    }
    return status;
}

static enum rpc_step go_on(struct rpc_request *request, int status) {
    if (status == STORE_OK || status == STORE_FULL || status == STORE_WAIT)
        return rpc_append_step(request, status);
    rpc_stop_waiting(request);
    if (status == STORE_INVALID)
        fail_damaged(request);
    else if (status == STORE_VERSION_CHANGED)
        rpc_fail(request, WIRE_UNSUPPORTED,
                 "the dump is of a newer version than this daemon reads (%d)", WIRE_DUMP_VERSION);
    else
        fail(request, status);
    return RPC_FAILED;
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    struct rpc_restore *state = request->append.restore;
    int status = STORE_OK;
    if (data->part != WIRE_PART_BYTES || data->layer != 0 || data->tokens != payload_bytes ||
        data->first + state->frame_taken != state->reader.bytes) {
        rpc_stop_waiting(request);
        rpc_fail(request, WIRE_INVALID, "a DATA frame is not the dump's next bytes");
        return RPC_FAILED;
    }
    while (status == STORE_OK && state->frame_taken < payload_bytes) {
        size_t taken;
        status = take_some(state, (const uint8_t *)payload + state->frame_taken,
                           payload_bytes - state->frame_taken, &taken, request->context->workspace);
        state->frame_taken += taken;
    }
    if (status == STORE_OK)
        state->frame_taken = 0;
    return go_on(request, status);
}

/* --- the end --- */

/* What was replaced is freed by the keeper; the reply waits until it would not come back. */
static void leave_replaced(struct rpc_request *request, struct session_discard *replaced) {
    if (!replaced)
        return;
    request->append.restore->replaced = replaced->deleted_on_disk;
    replaced->deleted_on_disk = NULL;
    keeper_discard(&request->context->daemon->store->keeper, &replaced->discard);
}

static int try_to_commit(struct rpc_request *request) {
    struct rpc_restore *state = request->append.restore;
    struct session_discard *replaced = NULL;
    int status = state->ended ? restoring_commit(state->restoring, &state->result, &replaced)
                              : STORE_INCOMPLETE;
    if (status == STORE_OK) {
        request->append.phase = APPEND_SAVING;
        request->irrevocable = true;
        leave_replaced(request, replaced);
        rpc_changed(request);
    }
    return status;
}

static enum rpc_step commit(struct rpc_request *request) {
    request->append.phase = APPEND_COMMITTING;
    enum rpc_step status = go_on(request, try_to_commit(request));
    return status == RPC_WAIT && !request->append.waits_for ? RPC_MORE : status;
}

static enum rpc_step forget_replaced(struct rpc_request *request) {
    struct rpc_restore *state = request->append.restore;
    if (!state->replaced)
        return RPC_DONE;
    int status = disk_promise_status(state->replaced);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    disk_promise_release(state->replaced);
    state->replaced = NULL;
    if (status == STORE_OK)
        return RPC_DONE;
    fail(request, status);
    return RPC_FAILED;
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct session_state *result = &request->append.restore->result;
    Kvq__RestoreReply message = KVQ__RESTORE_REPLY__INIT;
    message.version = result->version;
    message.tokens = result->tokens;
    message.tail_tokens = result->tail_tokens;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_restore *state = request->append.restore;
    if (request->append.phase == APPEND_COMMITTING)
        return go_on(request, try_to_commit(request));
    enum rpc_step status = forget_replaced(request);
    if (status == RPC_DONE)
        status = rpc_save_step(request, restoring_session(state->restoring),
                               (struct session_point){state->result.version, 0});
    return status == RPC_DONE ? reply(request, frame) : status;
}

static void end(struct rpc_request *request) {
    struct rpc_restore *state = request->append.restore;
    rpc_stop_waiting(request);
    if (state->replaced)
        disk_promise_release(state->replaced);
    restoring_end(state->restoring);
    free(state);
}

const struct rpc_operation rpc_restore = {.name = "restore",
                                          .effect = RPC_ADDS,
                                          .begin = begin,
                                          .step = step,
                                          .data = data,
                                          .commit = commit,
                                          .end = end};
