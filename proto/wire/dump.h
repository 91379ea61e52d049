/* A dump: sessions as a stream of parts, each guarded by a checksum that goes on from the one
 * before it.
 *
 * DUMP.md gives the bytes. Writers and readers work on the caller's memory, as the bytes come, and
 * must lie at a multiple of 64.
 */
#ifndef PROTO_WIRE_DUMP_H
#define PROTO_WIRE_DUMP_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_DUMP_VERSION = 1,
    WIRE_DUMP_HEAD_BYTES = 32,
    WIRE_DUMP_TAIL_BYTES_MAX = 15, /* of a part, behind what it holds */
    WIRE_DUMP_SESSION_BYTES = 56,  /* then its names */
    WIRE_DUMP_SESSION_BYTES_MAX = 4096,
    WIRE_DUMP_END_BYTES = 16,
    WIRE_DUMP_CLOSING_BYTES = 24,
    WIRE_DUMP_HASH_BYTES = 576,
};

enum wire_dump_kind {
    WIRE_DUMP_SESSION = 1,
    WIRE_DUMP_MANIFEST = 2,
    WIRE_DUMP_CHUNK = 3,
    WIRE_DUMP_KEYS = 4,
    WIRE_DUMP_ROWS = 5,
    WIRE_DUMP_ATTACHMENT = 6,
    WIRE_DUMP_BATCH = 7,
    WIRE_DUMP_END = 8,
    WIRE_DUMP_CLOSING = 9,
};

struct wire_dump_part {
    enum wire_dump_kind kind;
    uint32_t number; /* of the session's parts, from 0 on */
    uint64_t bytes;  /* that it holds */
};

/* A hash over what comes in pieces. */
struct wire_dump_hash {
    alignas(64) uint8_t state[WIRE_DUMP_HASH_BYTES];
};

/* --- writing: begin, add what the part holds, end --- */

struct wire_dump_writer {
    struct wire_dump_hash hash;
    struct wire_dump_part part;
    uint64_t chain; /* the checksum of the part before */
    uint64_t bytes; /* written so far, of all parts */
};

void wire_dump_begin(struct wire_dump_writer *writer, const struct wire_dump_part *part,
                     uint8_t head[WIRE_DUMP_HEAD_BYTES]);
void wire_dump_add(struct wire_dump_writer *writer, const uint8_t *bytes, size_t count);

/* How many bytes the tail has. */
size_t wire_dump_end(struct wire_dump_writer *writer, uint8_t tail[WIRE_DUMP_TAIL_BYTES_MAX]);

/* --- reading --- */

enum wire_dump_event {
    WIRE_DUMP_MORE,    /* all that came is taken */
    WIRE_DUMP_BEGINS,  /* a part */
    WIRE_DUMP_HOLDS,   /* some of what it holds */
    WIRE_DUMP_ENDS,    /* it is whole */
    WIRE_DUMP_DAMAGED, /* the bytes are no dump's */
    WIRE_DUMP_NEWER,   /* of a version that is not known here */
};

struct wire_dump_reader {
    struct wire_dump_hash hash;
    struct wire_dump_part part;
    uint64_t chain, bytes; /* as a writer has them */
    uint64_t left;         /* of what the part holds */
    uint32_t filled;
    int stage;
    uint8_t fixed[WIRE_DUMP_HEAD_BYTES]; /* a head or a tail, as it comes */
};

/* Within what was given to be read. */
struct wire_dump_bytes {
    const uint8_t *start;
    size_t count;
};

/* Zeros are a reader before the first part. Takes the next bytes up to an event; of WIRE_DUMP_HOLDS
 * they are *held. */
enum wire_dump_event wire_dump_read(struct wire_dump_reader *reader, const uint8_t *bytes,
                                    size_t count, size_t *taken, struct wire_dump_bytes *held);

/* --- what some parts hold --- */

/* What is known of a session without a daemon. */
struct wire_dump_session {
    const char *tenant, *model, *session; /* not terminated */
    uint16_t tenant_bytes, model_bytes, session_bytes;
    int8_t level;
    uint32_t layers, heads, head_dim_k, head_dim_v, dtype;
    uint64_t tokens, version, logical_bytes; /* logical: of its values as they came */
};

/* A multiple of 8. */
size_t wire_dump_session_bytes(const struct wire_dump_session *session);
void wire_dump_write_session(uint8_t *bytes, const struct wire_dump_session *session);

/* False if that cannot be; strings are within the bytes. */
bool wire_dump_read_session(const uint8_t *bytes, size_t count, struct wire_dump_session *session);

/* At the end of a session: how many parts, and bytes, stand before. */
struct wire_dump_totals {
    uint64_t parts, bytes;
};

void wire_dump_write_totals(uint8_t bytes[WIRE_DUMP_END_BYTES],
                            const struct wire_dump_totals *totals);
struct wire_dump_totals wire_dump_read_totals(const uint8_t bytes[WIRE_DUMP_END_BYTES]);

/* At the end of all. */
struct wire_dump_closing {
    uint64_t sessions, bytes; /* before it */
    uint64_t chain;           /* of the sessions' last checksums */
};

void wire_dump_write_closing(uint8_t bytes[WIRE_DUMP_CLOSING_BYTES],
                             const struct wire_dump_closing *closing);
struct wire_dump_closing wire_dump_read_closing(const uint8_t bytes[WIRE_DUMP_CLOSING_BYTES]);

/* One more session ends with this checksum. */
uint64_t wire_dump_chain(uint64_t chain, uint64_t checksum);

#endif
