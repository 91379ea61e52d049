/* DUMP: send a session as it is kept, some of a part a step, and close with what it was.
 *
 * The store gives the parts; here they get their heads and checksums, a part in front that says
 * what the session is, and one behind. Possible failure modes are: no such session or not that
 * version (refused), the session deleted, cut or found damaged on the way (a miss), what is on disk
 * has no room in memory (waits, then refused).
 */
#include "daemon/rpc/messages.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/store/dump.h"
#include "proto/wire/dump.h"

static_assert((int)WIRE_DUMP_MANIFEST == DUMP_MANIFEST && (int)WIRE_DUMP_CHUNK == DUMP_CHUNK &&
                  (int)WIRE_DUMP_KEYS == DUMP_KEYS && (int)WIRE_DUMP_ROWS == DUMP_ROWS &&
                  (int)WIRE_DUMP_ATTACHMENT == DUMP_ATTACHMENT &&
                  (int)WIRE_DUMP_BATCH == DUMP_BATCH,
              "kinds are the same numbers");

enum {
    FRAME_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES + WIRE_DUMP_FRAME_BYTES_MAX,
    /* A frame with room for this takes more: a piece of an attachment, and what stands around it.
     */
    ROOM_LEAST = ATTACHMENT_PIECE_BYTES + 1024,
};

enum stage { BEGINNING, BETWEEN_PARTS, IN_PART, ENDED };

struct rpc_dump {
    struct wire_dump_writer writer;
    struct dump dump;
    enum stage stage;
    uint32_t parts;
    uint64_t sent_bytes;
};

/* Where the next bytes of a frame go. */
struct room {
    uint8_t *to;
    size_t used;
};

static uint32_t fail(struct rpc_request *request, int status) {
    return rpc_fail_store(request, status, NULL);
}

static void drop(struct rpc_dump *state) {
    dump_end(&state->dump);
    free(state);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct dump_request dump = {0};
    const Kvq__DumpRequest *message =
        rpc_unpack(request, &kvq__dump_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code;
    if ((code = messages_read_name(request, &message->session, &dump.session)) ||
        (code = messages_read_tenant(request, message->tenant, &dump.session)))
        return code;
    dump.if_version = message->if_version;
    struct rpc_dump *state = aligned_alloc(alignof(struct rpc_dump), sizeof *state);
    if (!state)
        return fail(request, STORE_FULL);
    *state = (struct rpc_dump){0};
    int status = dump_begin(request->context->daemon->store, &dump, &state->dump);
    if (status != STORE_OK) {
        drop(state);
        return fail(request, status);
    }
    request->fetch = (struct rpc_fetch){.dump = state};
    request->frame_bytes = FRAME_BYTES;
    return WIRE_OK;
}

/* --- parts --- */

static void begin_part(struct rpc_dump *state, struct room *room, enum wire_dump_kind kind,
                       uint64_t bytes) {
    struct wire_dump_part part = {.kind = kind, .number = state->parts++, .bytes = bytes};
    wire_dump_begin(&state->writer, &part, room->to + room->used);
    room->used += WIRE_DUMP_HEAD_BYTES;
}

static void add(struct rpc_dump *state, struct room *room, size_t bytes) {
    wire_dump_add(&state->writer, room->to + room->used, bytes);
    room->used += bytes;
}

static void end_part(struct rpc_dump *state, struct room *room) {
    room->used += wire_dump_end(&state->writer, room->to + room->used);
}

static void write_session(struct rpc_dump *state, struct room *room) {
    const struct session *session = state->dump.session;
    const struct manifest *manifest = &state->dump.manifest;
    const struct geometry *geometry = &session->geometry;
    struct wire_dump_session said = {
        .tenant = session->tenant->name,
        .model = session->model,
        .session = session->name,
        .tenant_bytes = (uint16_t)session->tenant->name_bytes,
        .model_bytes = (uint16_t)session->model_bytes,
        .session_bytes = (uint16_t)session->name_bytes,
        .level = (int8_t)manifest->policy.level,
        .layers = geometry->layers,
        .heads = geometry->heads,
        .head_dim_k = geometry->head_dim_k,
        .head_dim_v = geometry->head_dim_v,
        .dtype = (uint32_t)geometry->dtype,
        .tokens = manifest->tokens,
        .version = state->dump.version,
        .logical_bytes = manifest->tokens * geometry_token_bytes(geometry),
    };
    begin_part(state, room, WIRE_DUMP_SESSION, wire_dump_session_bytes(&said));
    wire_dump_write_session(room->to + room->used, &said);
    add(state, room, wire_dump_session_bytes(&said));
    end_part(state, room);
}

static void write_end(struct rpc_dump *state, struct room *room) {
    struct wire_dump_totals totals = {.parts = state->parts, .bytes = state->writer.bytes};
    begin_part(state, room, WIRE_DUMP_END, WIRE_DUMP_END_BYTES);
    wire_dump_write_totals(room->to + room->used, &totals);
    add(state, room, WIRE_DUMP_END_BYTES);
    end_part(state, room);
}

static int begin_next(struct rpc_dump *state, struct room *room) {
    int status = dump_next(&state->dump);
    if (status == STORE_MORE) {
        begin_part(state, room, (enum wire_dump_kind)state->dump.kind, state->dump.bytes);
        state->stage = IN_PART;
    } else if (status == STORE_OK) {
        write_end(state, room);
        state->stage = ENDED;
    }
    return status;
}

static int read_some(struct rpc_dump *state, struct room *room, void *workspace) {
    struct dump *dump = &state->dump;
    size_t bytes = 0;
    int status = dump->at < dump->bytes ? dump_read(dump, room->to + room->used,
                                                    ATTACHMENT_PIECE_BYTES, &bytes, workspace)
                                        : STORE_OK;
    if (status != STORE_OK)
        return status;
    add(state, room, bytes);
    if (dump->at == dump->bytes) {
        end_part(state, room);
        state->stage = BETWEEN_PARTS;
    }
    return STORE_MORE;
}

/* STORE_MORE, STORE_OK when all is written, or what the store can come to. */
static int write_some(struct rpc_dump *state, struct room *room, void *workspace) {
    switch (state->stage) {
    case BEGINNING:
        write_session(state, room);
        state->stage = BETWEEN_PARTS;
        return STORE_MORE;
    case BETWEEN_PARTS:
        return begin_next(state, room);
    case IN_PART:
        return read_some(state, room, workspace);
    default:
        return STORE_OK;
    }
}

/* --- frames --- */

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_dump *state = request->fetch.dump;
    Kvq__DumpReply message = KVQ__DUMP_REPLY__INIT;
    message.version = state->dump.version;
    message.tokens = state->dump.manifest.tokens;
    message.bytes = state->sent_bytes;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step send(struct rpc_request *request, struct rpc_frame *frame, size_t bytes) {
    struct rpc_dump *state = request->fetch.dump;
    struct wire_data data = {
        .first = state->sent_bytes, .tokens = (uint32_t)bytes, .part = WIRE_PART_BYTES};
    state->sent_bytes += bytes;
    rpc_write_data(request, frame, &data, bytes);
    return RPC_MORE;
}

static enum rpc_step go_on(struct rpc_request *request, int status) {
    if (status == STORE_FULL)
        return rpc_wait_to_load(request);
    rpc_stop_loading(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    fail(request, status);
    return RPC_FAILED;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_dump *state = request->fetch.dump;
    struct room room = {.to = rpc_payload(frame)};
    int status = STORE_MORE;
    while (status == STORE_MORE && WIRE_DUMP_FRAME_BYTES_MAX - room.used >= ROOM_LEAST)
        status = write_some(state, &room, request->context->workspace);
    if (room.used > 0)
        return send(request, frame, room.used);
    return status == STORE_OK ? reply(request, frame) : go_on(request, status);
}

static void end(struct rpc_request *request) {
    rpc_stop_loading(request);
    drop(request->fetch.dump);
}

const struct rpc_operation rpc_dump = {.name = "dump", .begin = begin, .step = step, .end = end};
