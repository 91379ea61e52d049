/* Operations: what a request asks for, apart from how its bytes come and go.
 *
 * A request begins with its control message, takes DATA frames where its operation has `data`, and
 * is stepped until it is done; each step may leave a frame to be sent, or frames that follow each
 * other. No step takes much longer than coding a layer's K and V of a page. An operation sees the
 * request and the store, never a socket. Requests and contexts are used by one reactor only; the
 * rpc_daemon is shared by all.
 */
#ifndef DAEMON_RPC_RPC_H
#define DAEMON_RPC_RPC_H

#include <stdatomic.h>

#include "daemon/base/histogram.h"
#include "daemon/rpc/credentials.h"
#include "daemon/store/append.h"
#include "daemon/store/attachments.h"
#include "daemon/store/batches.h"
#include "daemon/store/block_get.h"
#include "daemon/store/block_put.h"
#include "daemon/store/fetch.h"
#include "daemon/store/fork.h"
#include "daemon/store/info.h"
#include "daemon/store/match.h"
#include "daemon/store/policy.h"
#include "daemon/store/saving.h"
#include "proto/wire/arena.h"
#include "proto/wire/errors.h"
#include "proto/wire/frame.h"

struct plugin;
struct recall;
struct rpc_recall;
struct rpc_recall_keys;
struct rpc_dump;
struct rpc_restore;

enum { RPC_TYPES = WIRE_TYPES, RPC_ARENA_BYTES = 256 << 10 };

/* Of sessions whose clients say nothing else; see struct session_policy. */
struct rpc_default_policy {
    _Atomic int level, newest_level, floor;
    _Atomic uint64_t newest_tokens, idle_step_ms, ttl_ms;
};

/* What requests may do: everything, add nothing, or change nothing. The wire's numbers. */
enum rpc_state { RPC_NORMAL = 1, RPC_DRAINED, RPC_READ_ONLY };

/* Why a fetch was a miss: no such session; it has fewer tokens than asked for, as one that lost its
 * newest has; deleted, cut or unreadable on the way; not sent by its deadline. */
enum rpc_miss { RPC_MISS_ABSENT, RPC_MISS_SHORT, RPC_MISS_GONE, RPC_MISS_LATE, RPC_MISSES };

/* One for the process; set up before the reactors start. */
struct rpc_daemon {
    struct store *store;
    struct recall *recall;
    struct plugin *plugin; /* recall's; NULL: none */
    struct budget *budget; /* the store's */
    const char *const *sockets;
    size_t socket_count;
    size_t page_cache_bytes; /* of each reactor's; a multiple of 64 */
    struct credentials *credentials;
    uint64_t started_ns;
    uint64_t set_aside_bytes;        /* of a pool that the service manager keeps for inspection */
    _Atomic uint32_t append_wait_ms; /* this and the three that follow may change at any time */
    _Atomic uint64_t request_ms, idle_ms; /* deadlines.h; idle_ms 0: none */
    struct rpc_default_policy default_policy;
    void (*on_change)(void *context); /* after sessions changed; from any reactor; may be NULL */
    void *change_context;
    _Atomic int state;                /* of enum rpc_state; may change at any time */
    _Atomic uint64_t slow_request_ms; /* from so long on one is logged; 0: none is */
    _Atomic uint64_t full_said_ns;    /* when the log last said that the limit is reached */
    /* the statistics, since the start but for the first */
    _Atomic uint64_t connections, connections_accepted, connections_refused, connections_stalled;
    _Atomic uint64_t requests[RPC_TYPES], errors[RPC_TYPES], total_us[RPC_TYPES], max_us[RPC_TYPES];
    _Atomic uint64_t faults[WIRE_ERROR_COUNT]; /* by code */
    _Atomic uint64_t refusals[RPC_TYPES][WIRE_ERROR_COUNT];
    _Atomic uint64_t fetched_tokens, fetched_bytes, fetch_hits, fetch_misses[RPC_MISSES];
    _Atomic uint64_t disk_hits; /* of these hits, what came from disk, in part at least */
    _Atomic uint64_t match_hits, matched_tokens;
    _Atomic uint64_t blocks_put, blocks_asked, block_hits;
    _Atomic uint64_t attachments_put, attachment_hits, attachment_misses;
    _Atomic uint64_t entries_put, entries_deleted;
};

/* By how many bytes a request moved, there and back: at most 4 KiB, 64 KiB, 1 MiB, 16 MiB, or more.
 */
enum { RPC_SIZES = 5 };

/* One for each reactor. */
struct rpc_context {
    struct rpc_daemon *daemon;
    struct histogram seconds[RPC_TYPES][RPC_SIZES]; /* of what was answered */
    _Atomic uint64_t in_flight;                     /* requests that have begun */
    struct wire_arena arena;
    void *workspace; /* PAGE_WORKSPACE_BYTES */
    struct page_cache pages;
};

/* A frame, or several, to be sent, in memory of the connection's: `start` is where the frame
 * begins. */
enum { RPC_FRAME_START = 64 - WIRE_HEADER_BYTES - WIRE_DATA_BYTES };
enum { RPC_SMALL_FRAME_BYTES = 4096 }; /* what most requests need */
enum { RPC_BUFFER_BYTES = 64 + WIRE_CONTROL_BYTES_MAX + WIRE_PAYLOAD_BYTES_MAX };

struct rpc_frame {
    uint8_t *buffer; /* room for request->frame_bytes; any alignment */
    size_t bytes;    /* of what is at buffer + RPC_FRAME_START; 0: none */
};

struct rpc_fault {
    uint32_t code;
    char message[200];
    uint64_t tokens;
    uint32_t tail_tokens;
};

enum rpc_step {
    RPC_MORE,   /* step again */
    RPC_WAIT,   /* step again when memory was freed, the keeper got on, or some time went by */
    RPC_DONE,   /* the frame is the reply */
    RPC_FAILED, /* request->fault says why */
};

enum append_phase { APPEND_RECEIVING, APPEND_COMMITTING, APPEND_SETTLING, APPEND_SAVING };

/* Who is at the other end of a connection: whose, and for the log. */
struct rpc_peer {
    struct tenant *tenant; /* NULL until it is known: nothing but HELLO begins then */
    struct charge charge;  /* of a connection of the tenant's, from HELLO on */
    enum rpc_role role;
    struct identity side;      /* who it is by its side of the connection */
    struct token_digest token; /* of one that gave a token */
    bool has_token;
    uint32_t table;          /* of the credentials that it was found in */
    const char *certificate; /* its subject, of a client that came by TLS; else NULL */
    char address[64];        /* a process of this machine, or HOST:PORT */
    char client[64];         /* what it calls itself in HELLO, made printable */
};

struct rpc_append {
    struct append_member *member;
    struct block_put *block;           /* of BLOCK_PUT, in the member's place */
    struct attachment_put *attachment; /* of ATTACH_PUT, likewise */
    struct attachment_result attached;
    struct batch_put *index; /* of INDEX_PUT, likewise */
    struct batch_put_result indexed;
    struct rpc_restore *restore; /* of RESTORE, likewise */
    enum append_phase phase;
    bool settle;
    struct charge in_flight;  /* a raw chunk, for what it stages */
    struct budget *waits_for; /* memory of it; NULL: it does not wait */
    uint64_t wait_ns, deadline_ns;
    struct session_state result;
};

/* What is freed in steps before the reply, and the session's state for that. */
struct rpc_discard {
    struct session *session;         /* owned reference, of TRUNCATE */
    struct session_discard *discard; /* NULL: nothing, or all of it is free */
    struct session_state state;
    uint64_t freed_bytes;
};

/* How a session is kept: POLICY and PIN. */
struct rpc_keeping {
    struct session *session; /* owned reference */
    struct session_state state;
    struct session_point point; /* at which it is changed */
    uint64_t pinned_ms;
    bool changes; /* what the keeper heeds */
};

struct rpc_age {
    struct session *session; /* owned reference */
    struct session_point point;
    int level;
    bool settle, heeded;
    uint64_t stored_bytes_before, ticket; /* the keeper's, once it heeds it */
};

struct rpc_delete_many {
    struct session_filter filter;
    char prefix[256], model[256]; /* of the filter */
    bool dry_run;
    uint64_t after_id, last_id; /* looked at so far; of the last that there was at the beginning */
    uint64_t sessions, freed_bytes;
    bool any_left; /* without memory to delete it on disk */
};

struct rpc_fetch {
    struct fetch fetch;
    struct block_get *blocks;         /* of BLOCK_GET, in its place */
    struct rpc_recall *recall;        /* of RECALL, which fetches one hit behind the other */
    struct rpc_recall_keys *keys;     /* of RECALL_KEYS, likewise */
    struct attachment_get attachment; /* of ATTACH_GET, likewise */
    struct rpc_dump *dump;            /* of DUMP, likewise */
    uint64_t deadline_ns;             /* 0: none */
    struct budget *waits_for;         /* memory, into which a chunk is to be loaded from disk */
    bool from_disk;                   /* some of it */
    uint64_t memory_deadline_ns;
};

struct rpc_flush {
    struct session *session; /* owned reference: the one that is being saved; NULL: none left */
    struct session_point point;
    struct list *list; /* of all: the sessions, then the chains of blocks; NULL: of one session */
    uint64_t last_id;  /* of the last one in it that there was when its turn came */
    uint64_t sessions;
};

struct rpc_fork {
    struct session_state state; /* of the new session */
    struct session *session;    /* owned reference */
};

struct rpc_match {
    struct match *match;
    struct match_result result;
};

struct rpc_block_act {
    uint32_t *tokens; /* of each; 0: not there */
    size_t key_count;
    uint32_t page_tokens;
    bool is_delete;
    struct block_deletion *deletions; /* of each, in front of the tokens; none if it is no delete */
    size_t settled;                   /* of these: they would not come back after a restart */
    struct disk_promise *others;      /* of what went before; NULL: not asked for */
};

struct rpc_detach {
    struct session *session; /* owned reference */
    struct attachment_result result;
};

struct rpc_unindex {
    struct session *session; /* owned reference */
    struct batch_delete_result result;
};

struct rpc_list {
    struct list *list; /* the tenant's, or of all */
    uint64_t after_id;
    uint32_t limit;
};

struct rpc_request {
    const struct rpc_operation *operation;
    struct rpc_context *context;
    uint32_t id;
    uint64_t begun_ns, heard_ns; /* heard: when something of it came last */
    uint64_t moved_bytes;        /* of frames that came and went */
    size_t frame_bytes;          /* no step leaves more; begin may raise it */
    struct rpc_fault fault;
    union {
        struct session_state state; /* of OPEN */
        struct rpc_keeping keeping;
        struct rpc_fork fork;
        struct rpc_flush flush;
        struct rpc_append append;
        struct rpc_fetch fetch;
        struct session *session;
        struct rpc_list list;
        struct {
            struct rpc_discard discard; /* of DELETE, TRUNCATE and DELETE_MANY */
            struct rpc_delete_many many;
        };
        struct rpc_age age;
        struct rpc_match match;
        struct rpc_block_act block_act;
        struct rpc_detach detach;
        struct rpc_unindex unindex;
    };
    char session_name[WIRE_SESSION_BYTES_MAX + 1]; /* for the log; empty: none */
    struct rpc_peer *peer;
    /* the connection's */
    struct rpc_request *next;
    uint8_t type;
    bool failed, waiting;
    bool receiving;   /* more frames of this id may come */
    bool irrevocable; /* what it asked for is done: only its reply is to come */
    bool discarding;  /* its fault was sent: what still comes is dropped */
};

#define RPC_LATER UINT32_MAX

/* What an operation does to sessions. */
enum rpc_effect { RPC_READS, RPC_CHANGES, RPC_ADDS };

struct rpc_operation {
    const char *name;
    enum rpc_effect effect;
    /* 0 or a code, given by rpc_fail(). After a failure only the fault is looked at: no end. Or
     * RPC_LATER, with nothing done: to be called again when a step would be that waits. */
    uint32_t (*begin)(struct rpc_request *request, const uint8_t *control, size_t control_bytes);
    enum rpc_step (*step)(struct rpc_request *request, struct rpc_frame *frame);
    /* NULL but for operations that take DATA: RPC_MORE, RPC_WAIT (the frame was not taken) or
     * RPC_FAILED. */
    enum rpc_step (*data)(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes);
    enum rpc_step (*commit)(struct rpc_request *request);
    void (*end)(struct rpc_request *request); /* frees what begin took; NULL: nothing */
};

/* The operation of a frame type, or NULL. */
const struct rpc_operation *rpc_find(uint8_t type);

/* Whether the daemon's state lets such an operation begin. */
bool rpc_allows(const struct rpc_daemon *daemon, enum rpc_effect effect);

/* Whose the client is, by its side and by its token, if it gave one. */
void rpc_identify(struct rpc_daemon *daemon, struct rpc_peer *peer);

/* The same with another table of credentials: its role may be another then. False, with nothing
 * changed, if it is nobody's now or another tenant's. */
bool rpc_identify_again(struct rpc_daemon *daemon, struct rpc_peer *peer)
    __attribute__((warn_unused_result));

/* Sets the fault and returns its code; with no format the message is the error's sentence. */
uint32_t rpc_fail(struct rpc_request *request, uint32_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a fault of the store. */
uint32_t rpc_fail_store(struct rpc_request *request, int store_error,
                        const struct session_state *state);

/* At a limit of memory: the daemon's, or the tenant's own. */
uint32_t rpc_fail_full(struct rpc_request *request);

/* Has the request be among those that wait for memory, of the limit that is in its way; and no
 * longer. True if it was not before. */
bool rpc_await_memory(const struct rpc_request *request, struct budget **waits_for);
void rpc_stop_awaiting(struct budget **waits_for);

/* The same where a new session may not have its name yet. */
uint32_t rpc_fail_name(struct rpc_request *request);

/* How long the request waits at the memory limit: 0 stands for the daemon's own time. */
uint64_t rpc_memory_wait_ns(const struct rpc_request *request, uint64_t wait_ms);

/* Sessions changed: tells who wants to know. */
void rpc_changed(const struct rpc_request *request);

/* Frees some more of request->discard: RPC_MORE while there is more, RPC_WAIT until what of it was
 * on disk is deleted there, RPC_DONE or RPC_FAILED. */
enum rpc_step rpc_discard_step(struct rpc_request *request);

/* What the session is now. */
struct session_point rpc_point_of(struct session *session);

/* What a session's point waits for where it is owed to the disk: RPC_WAIT, RPC_DONE or RPC_FAILED.
 */
enum rpc_step rpc_save_step(struct rpc_request *request, struct session *session,
                            struct session_point point);

/* Whether an operation of this type can begin: before what is on disk has been found only those
 * that look no session up. */
bool rpc_can_begin(const struct rpc_daemon *daemon, uint8_t type);

/* What is left of request->discard is freed by the keeper. */
void rpc_discard_end(struct rpc_request *request);

/* Unpacks into the context's arena; NULL if the bytes are not such a message. */
void *rpc_unpack(struct rpc_request *request, const ProtobufCMessageDescriptor *descriptor,
                 const uint8_t *control, size_t control_bytes);

/* --- append.c, for all that appends --- */

/* After a part or a commit came to this: at the memory limit it is to be repeated until the
 * deadline, which begins with the first refusal. */
enum rpc_step rpc_append_step(struct rpc_request *request, int status);
void rpc_stop_waiting(struct rpc_request *request);

/* Of K or V. */
struct append_part rpc_append_part(const struct wire_data *data, const void *payload,
                                   size_t payload_bytes);

/* --- fetch.c, for all that fetches --- */

/* Room for frames of two pieces where a buffer has it, else for one. */
void rpc_hold_pieces(struct rpc_request *request, size_t piece_bytes_max);
struct fetch_room rpc_room_of(const struct rpc_request *request, const struct rpc_frame *frame);

/* As for an append, where a chunk is to come from disk. */
enum rpc_step rpc_wait_to_load(struct rpc_request *request);
void rpc_stop_loading(struct rpc_request *request);

/* Frames of pieces that are in that room. */
void rpc_write_pieces(const struct rpc_request *request, struct rpc_frame *frame,
                      const struct fetch_piece *pieces, size_t count);

/* Each writes one whole frame. */
enum rpc_step rpc_reply(const struct rpc_request *request, struct rpc_frame *frame,
                        const ProtobufCMessage *message);
void rpc_write_fault(uint32_t request_id, const struct rpc_fault *fault, struct rpc_frame *frame);
void rpc_write_data(const struct rpc_request *request, struct rpc_frame *frame,
                    const struct wire_data *data, size_t payload_bytes);

/* Where the payload of a DATA frame is to be put before rpc_write_data(). */
void *rpc_payload(const struct rpc_frame *frame);

/* The operations, one a file. */
extern const struct rpc_operation rpc_hello, rpc_ping, rpc_open, rpc_append, rpc_fetch, rpc_info,
    rpc_list, rpc_delete, rpc_stats, rpc_fork, rpc_truncate, rpc_age, rpc_pin, rpc_delete_many,
    rpc_policy, rpc_match, rpc_block_put, rpc_block_get, rpc_block_control, rpc_control, rpc_flush,
    rpc_attach_put, rpc_attach_get, rpc_attach_list, rpc_attach_delete, rpc_index_put,
    rpc_index_delete, rpc_recall, rpc_recall_keys, rpc_dump, rpc_restore;

#endif
