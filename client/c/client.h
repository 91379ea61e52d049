/* What the files of libkvq share: the client, its failures, and one request with its answer.
 *
 * A client owns its channel and two buffers. A failure is recorded once, where it is found, as a
 * sentence in the client; whoever passes it on returns its number.
 */
#ifndef CLIENT_C_CLIENT_H
#define CLIENT_C_CLIENT_H

#include "client/c/channel.h"
#include "client/c/kvq.h"
#include "proto/wire/arena.h"
#include "proto/wire/errors.h"
#include "proto/wire/frame.h"
#include "proto/wire/kvq.pb-c.h"

enum { KVQ_MESSAGE_BYTES = 512, KVQ_ADDRESS_BYTES = 256, KVQ_ARENA_BYTES = 4 << 20 };

/* An append between begin and commit. */
struct kvq_append_progress {
    bool active;
    uint32_t request_id;
    uint64_t first, tokens;
    uint32_t run_tokens_first, page_tokens; /* the first run fills the tail, the others a page */
    uint32_t layout;
    int64_t deadline_ms;
    struct kvq_geometry geometry;
    struct kvq_session_state *state;
};

struct kvq_client {
    struct kvq_channel channel;
    uint32_t next_request_id;
    int64_t deadline_ms;
    uint32_t append_runs_max;
    struct kvq_append_progress append;
    char message[KVQ_MESSAGE_BYTES];
    char address[KVQ_ADDRESS_BYTES];
    /* The last ErrorReply's. */
    uint64_t error_tokens;
    uint32_t error_tail_tokens;
    struct wire_arena arena; /* replies, and what is lent out of them until the next call */
    uint8_t *control;        /* WIRE_HEADER_BYTES + WIRE_CONTROL_BYTES_MAX */
    uint8_t *bounce;         /* WIRE_PAYLOAD_BYTES_MAX, for values that do not lie in rows */
    uint64_t *cursors;       /* of a fetch: the next token of each layer and part */
    size_t cursor_count;
};

#pragma GCC visibility push(hidden)

/* Records the sentence and returns error. */
int kvq_fail(struct kvq_client *client, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, and closes the connection, which is out of step or gone. */
int kvq_break(struct kvq_client *client, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Closes the connection for an error of the channel; 0 passes. */
int kvq_check_channel(struct kvq_client *client, int error);

/* Opens a call: fails if the connection is gone or an append is under way; frees what the call
 * before lent out; sets the deadline (0: the client's). */
int kvq_begin_call(struct kvq_client *client, int64_t deadline_ms);

uint32_t kvq_new_request_id(struct kvq_client *client);

/* Sends a frame without payload; message NULL: an empty control part. */
int kvq_send_control(struct kvq_client *client, enum wire_type type, uint32_t request_id,
                     const ProtobufCMessage *message);

/* Reads a header that belongs to request_id, or an error that ends the connection. */
int kvq_read_header(struct kvq_client *client, uint32_t request_id, struct wire_header *header);

/* Reads the control part of a REPLY or ERROR. An ERROR is recorded and its number returned; a REPLY
 * is decoded into the arena as type. */
int kvq_read_answer(struct kvq_client *client, const struct wire_header *header,
                    const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply);

/* Waits for the answer to a request that has no DATA. */
int kvq_await_answer(struct kvq_client *client, uint32_t request_id,
                     const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply);

/* A whole small request. */
int kvq_request(struct kvq_client *client, enum wire_type type, const ProtobufCMessage *message,
                const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply);

/* After a write that failed: the error with which the daemon closed, if it sent one. */
int kvq_lost_in_write(struct kvq_client *client, uint32_t request_id, int error);

/* What an older or newer program gives as options, cut or filled with zeros to this library's. */
void kvq_copy_options(void *options, size_t options_bytes, const void *given, size_t given_bytes);

/* NULL or a session's name that cannot be is KVQ_ARGUMENT. */
int kvq_check_name(struct kvq_client *client, const char *what, const char *name, size_t bytes_max);

/* A zero-terminated copy in the arena; "" where that is full. */
const char *kvq_lend_string(struct kvq_client *client, const ProtobufCBinaryData *bytes);

/* The bounce buffer, allocated at first use. NULL: no memory, recorded. */
uint8_t *kvq_bounce(struct kvq_client *client);

/* Copies rows of levels into the arena; *levels stays as it is where there are none. */
int kvq_fill_levels(struct kvq_client *client, Kvq__LevelInfo *const *wire, size_t count,
                    const struct kvq_level_info **levels, size_t *level_count);

struct kvq_loss kvq_loss_from_wire(const Kvq__Loss *wire);
void kvq_geometry_from_wire(struct kvq_geometry *geometry, const Kvq__Geometry *wire);

#pragma GCC visibility pop

#endif
