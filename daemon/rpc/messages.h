/* Between the messages of kvq.proto and the store's types: names, geometry, session infos. */
#ifndef DAEMON_RPC_MESSAGES_H
#define DAEMON_RPC_MESSAGES_H

#include "daemon/rpc/rpc.h"
#include "proto/wire/kvq.pb-c.h"

/* 0, or the fault's code if it is not a session's name. The name points into the message. */
uint32_t messages_read_name(struct rpc_request *request, const ProtobufCBinaryData *bytes,
                            struct store_name *name) __attribute__((warn_unused_result));

/* An admin may say whose the session is; text is empty if the client has not. 0, or the fault's
 * code. */
uint32_t messages_read_tenant(struct rpc_request *request, const char *text,
                              struct store_name *name) __attribute__((warn_unused_result));

/* Whether it is UTF-8 without control characters. */
bool messages_is_plain(const char *text, size_t bytes);

/* Which attachment a request is about. */
struct messages_attachment {
    const ProtobufCBinaryData *session, *name;
    uint64_t if_version;
};

/* 0, or the fault's code. */
uint32_t messages_read_attachment(struct rpc_request *request,
                                  const struct messages_attachment *message,
                                  struct attachment_key *key) __attribute__((warn_unused_result));

/* The code of a miss: no such session, or it has no attachment of that name. */
uint32_t messages_fail_attachment(struct rpc_request *request, bool has_session);

/* A model's fingerprint; may be empty. */
uint32_t messages_read_model(struct rpc_request *request, const ProtobufCBinaryData *bytes,
                             struct store_name *model) __attribute__((warn_unused_result));

/* 0, or the fault's code if there is no such level. */
uint32_t messages_check_level(struct rpc_request *request, int level)
    __attribute__((warn_unused_result));

uint32_t messages_read_geometry(struct rpc_request *request, const Kvq__Geometry *message,
                                struct geometry *geometry) __attribute__((warn_unused_result));

struct messages_geometry {
    Kvq__Geometry geometry;
    Kvq__Rope rope;
};

/* Fills the message, which points into itself. */
void messages_write_geometry(const struct geometry *geometry, struct messages_geometry *message);

/* Salts of tokens first .. first + tokens - 1. */
struct messages_salts {
    Kvq__SaltRange *const *ranges;
    size_t count;
    uint64_t first, tokens;
};

/* 0, or the fault's code; the salts are the arena's. */
uint32_t messages_read_salts(struct rpc_request *request, const struct messages_salts *message,
                             const struct salt **salts) __attribute__((warn_unused_result));

/* Whether a DATA frame of token ids is what its descriptor says. */
bool messages_are_ids(const struct wire_data *data, size_t payload_bytes);

struct messages_levels {
    Kvq__LevelTokens levels[FETCH_LEVELS], *pointers[FETCH_LEVELS];
};

/* How many levels have tokens; what points to them points into the struct. */
size_t messages_write_levels(const uint64_t tokens[FETCH_LEVELS], struct messages_levels *message);

void messages_write_loss(const struct loss *loss, Kvq__Loss *message);

/* 0, or the fault's code; message may be NULL. */
uint32_t messages_read_policy(struct rpc_request *request, const Kvq__Policy *message,
                              struct session_policy_change *change)
    __attribute__((warn_unused_result));

/* How what is created is to be kept: what is absent is the daemon's default. */
struct messages_quality {
    const Kvq__Level *level;
    double min_snr_db;
    const Kvq__Policy *policy;
};

uint32_t messages_read_quality(struct rpc_request *request, const struct messages_quality *message,
                               struct session_policy *policy) __attribute__((warn_unused_result));

struct messages_policy {
    Kvq__Policy policy;
    Kvq__Number newest_tokens, idle_step_ms, ttl_ms;
    Kvq__Level newest_level, floor;
};

/* Fills the message, which points into itself. */
void messages_write_policy(const struct session_policy *policy, struct messages_policy *message);

/* The code of a change that STORE_INVALID refuses, with a sentence. */
uint32_t messages_fail_policy(struct rpc_request *request, int level);

/* The info of a session with all that it points to, from the arena; NULL at its end. */
Kvq__SessionInfo *messages_write_info(struct wire_arena *arena, const struct session *session,
                                      const struct session_info *info, bool with_levels);

static inline enum session_durability messages_durability(Kvq__Durability durability) {
    return durability == KVQ__DURABILITY__DURABILITY_DISK ? SESSION_ON_DISK : SESSION_IN_MEMORY;
}

static inline Kvq__Durability messages_write_durability(enum session_durability durability) {
    return durability == SESSION_ON_DISK ? KVQ__DURABILITY__DURABILITY_DISK
                                         : KVQ__DURABILITY__DURABILITY_MEMORY;
}

/* --- messages_block.c --- */

/* Which blocks a request is about. */
struct messages_blocks {
    ProtobufCBinaryData model;
    const Kvq__Geometry *geometry;
    const ProtobufCBinaryData *keys;
    size_t key_count;
};

struct messages_block_space {
    struct store_name model;
    struct geometry geometry;
    const struct store_name *keys; /* the arena's; their text is the message's */
};

/* 0, or the fault's code. */
uint32_t messages_read_blocks(struct rpc_request *request, const struct messages_blocks *message,
                              struct messages_block_space *space)
    __attribute__((warn_unused_result));

/* One of them. */
struct block_key messages_block_key(const struct messages_block_space *space, size_t index);

#endif
