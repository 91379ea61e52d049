/* What the files of libkvq share: the client and the call that is under way.
 *
 * A call is a step function over the state in struct kvq_call and struct kvq_append: it goes on as
 * far as the sockets allow and returns KVQ_AGAIN or the call's result. call.c runs it, in a loop
 * with poll() for a blocking client, once at a time for others. A failure is recorded once, where
 * it is found, as a sentence in the client; whoever passes it on returns its number.
 */
#ifndef CLIENT_C_CLIENT_H
#define CLIENT_C_CLIENT_H

#include "client/c/address.h"
#include "client/c/append.h"
#include "client/c/connection.h"
#include "client/c/fetch.h"
#include "client/c/kvq.h"
#include "client/c/tls.h"
#include "client/c/tls_stream.h"
#include "proto/wire/arena.h"
#include "proto/wire/errors.h"
#include "proto/wire/frame.h"
#include "proto/wire/kvq.pb-c.h"

enum {
    KVQ_ARENA_BYTES = 4 << 20,
    KVQ_CONNECTIONS_MAX = 8,
    KVQ_TENANT_BYTES_MAX = 64,
    KVQ_REQUEST_BYTES_MAX = 2048, /* three names and a geometry are far below */
    KVQ_STEP_BYTES_MAX = 1 << 20, /* then the caller's loop, and the deadline, have their turn */
};

/* A request that is answered by one frame. What it needs of the caller's options is in here. */
struct kvq_request {
    enum wire_type type;
    uint32_t request_id;
    uint8_t control[KVQ_REQUEST_BYTES_MAX];
    size_t control_bytes;
    const ProtobufCMessage *large; /* with the client's arena; NULL: it is in control */
    const ProtobufCMessageDescriptor *reply_type;
    /* Takes the reply to where `result` points; NULL: nothing to take. */
    int (*finish)(struct kvq_client *client, const ProtobufCMessage *reply);
    void *result;
    struct kvq_session_state state; /* what the result will have of the caller's arguments */
    uint64_t after_id;
};

/* A request with token ids behind it. */
struct kvq_ids_request {
    enum wire_type type;
    uint32_t request_id;
    const ProtobufCMessage *message;
    const uint32_t *ids; /* NULL: none */
    uint64_t first, count;
};

/* The state of kvq_match(). */
struct kvq_match_call {
    uint32_t request_id;
    char model[KVQ_MODEL_BYTES_MAX + 1];
    bool has_geometry;
    struct kvq_geometry geometry;
    const uint32_t *ids;
    uint64_t tokens;
    Kvq__SaltRange **salts;
    size_t salt_count;
    struct kvq_match *result;
};

/* The state of kvq_attachment_put() and kvq_attachment_get(); the request is in request.control. */
struct kvq_attachment_call {
    enum wire_type type;
    uint32_t request_id;
    const char *bytes; /* to be put */
    size_t byte_count; /* of these, or received so far */
    struct kvq_attachment *got;
    struct kvq_attachment_result *result;
};

/* The state of kvq_dump() and kvq_restore(); the request is in request.control. */
struct kvq_dump_call {
    enum wire_type type;
    uint32_t request_id;
    struct kvq_dump_options dump;
    struct kvq_restore_options restore;
    uint64_t done_bytes;            /* received, or queued */
    struct kvq_dump_result *dumped; /* the caller's, or NULL, as is the next */
    struct kvq_restore_result *restored;
};

/* The state of kvq_index(). */
struct kvq_index_call {
    char session[KVQ_SESSION_BYTES_MAX + 1];
    struct kvq_index_options options;
    uint32_t request_id;
    size_t first, count, byte_count; /* what is being sent */
    struct kvq_index_result result;
    struct kvq_index_result *wanted; /* the caller's, or NULL */
};

/* The state of kvq_recall(). */
struct kvq_recall_call {
    uint32_t request_id;
    Kvq__RecallRequest *request; /* the arena's */
    const float *query;
    bool has_hits, expects_hits;
    uint8_t *packed; /* the hits as they come, the arena's */
    struct kvq_recall_hit *hits;
    size_t row_bytes[2], part_offset[2]; /* of K and V in the client's memory */
    struct kvq_recalled *recalled;       /* the caller's */
};

/* The state of kvq_recall_keys(). What comes lies in the client's memory: the layers, their ranges
 * one behind the other, and K and V, whose places are known once all ranges are. */
struct kvq_recall_keys_call {
    uint32_t request_id;
    char session[KVQ_SESSION_BYTES_MAX + 1], model[KVQ_MODEL_BYTES_MAX + 1];
    struct kvq_recall_keys_options options;
    struct kvq_geometry geometry;
    uint32_t end_layer;
    size_t bytes;        /* that are in use of the memory */
    bool has_all_ranges; /* K and V have places */
    uint32_t last_layer; /* whose ranges came */
    size_t row_bytes[2];
    struct kvq_recalled_keys *recalled; /* the caller's */
};

struct kvq_call {
    int (*step)(struct kvq_client *client);   /* NULL: no call is under way */
    void (*leave)(struct kvq_client *client); /* gives it up */
    unsigned stage;                           /* of the step function; 0: the beginning */
    int64_t deadline_ns;                      /* INT64_MAX: none */
    int64_t miss_ns;                          /* of a fetch: it is a miss then; INT64_MAX: never */
    bool connecting;                          /* this is kvq_connect() */
    bool safe;                                /* having it done twice is as good as once */
    bool sent;                                /* all of it: the daemon may have done it */
    bool may_repeat;                          /* once, where the connection is lost */
    size_t moved_bytes;                       /* in this step */
    size_t connection_count;                  /* that it uses */
    struct kvq_request request;
    struct kvq_fetch fetch;
    struct kvq_match_call match;
    struct kvq_attachment_call attachment;
    struct kvq_dump_call dump;
    struct kvq_index_call index;
    struct kvq_recall_call recall;
    struct kvq_recall_keys_call recall_keys;
};

struct kvq_client {
    struct kvq_connection *connections[KVQ_CONNECTIONS_MAX]; /* the first always; others if used */
    size_t connections_max;
    bool non_blocking, no_reconnect;
    int watcher; /* of a non-blocking client: the epoll of its sockets; -1 */
    struct kvq_call call;
    struct kvq_append append;
    uint32_t next_request_id;
    int64_t deadline_ms;
    uint32_t append_runs_max, append_wait_ms; /* as the daemon has them */
    struct kvq_address addresses[KVQ_ADDRESSES_MAX];
    size_t address_count;
    char address[KVQ_ADDRESS_BYTES];
    char host[KVQ_ADDRESS_BYTES]; /* of the address; "": it is a path */
    struct kvq_tls *tls;          /* NULL: its sockets are plain */
    enum kvq_role role;
    char tenant[KVQ_TENANT_BYTES_MAX + 1];
    uint8_t hello[KVQ_REQUEST_BYTES_MAX];
    size_t hello_bytes;
    char message[KVQ_MESSAGE_BYTES];
    /* The last ErrorReply's. */
    uint64_t error_tokens;
    uint32_t error_tail_tokens;
    struct wire_arena arena; /* replies, and what is lent out of them until the next call */
    char *attachment;        /* or what was recalled: lent out until the next call; NULL: none */
    size_t attachment_capacity;
    uint64_t *cursors; /* of a fetch: the next token of each layer and part */
    size_t cursor_count;
};

#pragma GCC visibility push(hidden)

/* ---- client.c ---- */

/* Records the sentence and returns error. */
int kvq_fail(struct kvq_client *client, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

uint32_t kvq_new_request_id(struct kvq_client *client);

/* What an older or newer program gives as options, cut or filled with zeros to this library's. */
void kvq_copy_options(void *options, size_t options_bytes, const void *given, size_t given_bytes);

/* NULL or a session's name that cannot be is KVQ_ARGUMENT. */
int kvq_check_name(struct kvq_client *client, const char *what, const char *name, size_t bytes_max);

/* NULL is empty. */
ProtobufCBinaryData kvq_text(const char *string);

/* A zero-terminated copy in the arena; "" where that is full. */
const char *kvq_lend_string(struct kvq_client *client, const ProtobufCBinaryData *bytes);

/* Copies rows of levels into the arena; *levels stays as it is where there are none. */
int kvq_fill_levels(struct kvq_client *client, Kvq__LevelInfo *const *wire, size_t count,
                    const struct kvq_level_info **levels, size_t *level_count);

struct kvq_loss kvq_loss_from_wire(const Kvq__Loss *wire);
void kvq_geometry_from_wire(struct kvq_geometry *geometry, const Kvq__Geometry *wire);
void kvq_geometry_to_wire(const struct kvq_geometry *geometry, Kvq__Geometry *wire,
                          Kvq__Rope *rope);

/* ---- policy.c ---- */

/* A Policy message of what is given, which points into itself. */
struct kvq_policy_message {
    Kvq__Policy policy;
    Kvq__Number newest_tokens, idle_step_ms, ttl_ms;
    Kvq__Level newest_level, floor;
};

/* NULL if nothing is given; options may be NULL. */
Kvq__Policy *kvq_policy_to_wire(const struct kvq_policy_options *options,
                                struct kvq_policy_message *message);
struct kvq_policy kvq_policy_from_wire(const Kvq__Policy *wire);

/* ---- block.c ---- */

/* The keys of a request, copied into the arena. */
int kvq_keys_to_wire(struct kvq_client *client, const struct kvq_key *keys, size_t count,
                     ProtobufCBinaryData **wire);

/* Queues the request of a put, and of a get. */
int kvq_queue_block_put(struct kvq_client *client, struct kvq_connection *connection,
                        uint32_t request_id);
int kvq_queue_block_get(struct kvq_client *client, struct kvq_connection *connection,
                        uint32_t request_id);

/* ---- attachment.c ---- */

/* What was lent out is the caller's no more. */
void kvq_drop_attachment(struct kvq_client *client);

/* Room for so many bytes there. */
int kvq_provide(struct kvq_client *client, size_t bytes);

/* ---- call.c ---- */

/* Opens a call: fails if another is under way; frees what the call before lent out; sets the
 * deadline (0: the client's). */
int kvq_begin_call(struct kvq_client *client, int64_t deadline_ms);

/* The same of a call that may come between the begin and the end of an append. */
int kvq_begin_any_call(struct kvq_client *client, int64_t deadline_ms);

/* Runs the call that was opened, from its beginning: to its result, or, of a non-blocking client,
 * as far as it goes. */
int kvq_run_call(struct kvq_client *client, int (*step)(struct kvq_client *client),
                 void (*leave)(struct kvq_client *client));

/* How long the daemon is to wait for memory, asked for so long: for 0 it is told nothing, or half
 * of the time that the call has left, so that a full daemon can say so before the call is over. */
uint32_t kvq_memory_wait_ms(const struct kvq_client *client, uint32_t wait_ms);

/* So many are used from now on: more than one have to be waited for together. */
void kvq_use_connections(struct kvq_client *client, size_t count);

/* Whether a step has moved so much that it should return KVQ_AGAIN. */
bool kvq_step_is_long(struct kvq_client *client);

/* An answer of DATA frames and a REPLY or ERROR behind them, on the client's first connection. */
struct kvq_stream {
    uint32_t request_id;
    int (*expect)(struct kvq_client *client); /* says where the payload of the frame at hand goes */
    int (*take)(struct kvq_client *client);   /* it is there */
    int (*finish)(struct kvq_client *client); /* the frame at hand is the answer */
};

/* Receives all of it. */
int kvq_receive_stream(struct kvq_client *client, const struct kvq_stream *stream);

/* ---- token_ids.c ---- */

/* Salts as messages in the arena; NULL where there are none. Those that cannot be are KVQ_ARGUMENT.
 */
int kvq_salts_to_wire(struct kvq_client *client, const struct kvq_salt *salts, size_t count,
                      Kvq__SaltRange ***ranges);

/* Queues a request and the ids that follow it, which stay where they are; nothing else is queued.
 */
int kvq_queue_with_ids(struct kvq_client *client, struct kvq_connection *connection,
                       const struct kvq_ids_request *request);

/* ---- request.c ---- */

/* Runs a request that is answered by one frame; safe: it may be repeated after it was sent. A
 * message above KVQ_REQUEST_BYTES_MAX is the arena's. */
int kvq_request(struct kvq_client *client, enum wire_type type, bool safe,
                const ProtobufCMessage *message, const ProtobufCMessageDescriptor *reply_type,
                int (*finish)(struct kvq_client *client, const ProtobufCMessage *reply),
                void *result);

/* Runs a request that has steps of its own, for bytes behind it or before its answer; give_up as
 * kvq_run_call() has it. The first step queues it. */
int kvq_run_request(struct kvq_client *client, const ProtobufCMessage *message, bool safe,
                    int (*step)(struct kvq_client *client),
                    void (*give_up)(struct kvq_client *client));
uint32_t kvq_queue_request(struct kvq_client *client, enum wire_type type); /* its id */

/* What an impossible answer is. */
int kvq_impossible(struct kvq_client *client, const char *what);

/* How many of the client's connections a transfer of so many tokens is shared out to, so that each
 * has bytes_min and a page, at least. */
size_t kvq_connections_worth(const struct kvq_client *client, uint64_t tokens, uint32_t page_tokens,
                             uint64_t token_bytes, uint64_t bytes_min);

#pragma GCC visibility pop

#endif
