/* What all sessions of a tenant hold together, and those of all tenants, kept up as it changes so
 * that nobody has to walk them.
 *
 * Chunks, tails and sessions count themselves, each under its own lock; sums that are read together
 * may be apart by what is just being changed.
 */
#ifndef DAEMON_STORE_USAGE_H
#define DAEMON_STORE_USAGE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/charge.h"
#include "proto/page/page.h"

enum { USAGE_LEVELS = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1 };

struct usage_count {
    _Atomic uint64_t tokens, bytes;
    _Atomic uint64_t logical_bytes; /* as they came, of those tokens whose values are there */
};

/* Of attachments, or of batches of embeddings. */
struct usage_attachments {
    _Atomic uint64_t count, given_bytes; /* what is shared counted once */
    _Atomic uint64_t bytes, full_bytes;  /* in memory: once, and with each session that has it */
    _Atomic uint64_t disk_bytes;
};

struct usage {
    struct usage *whole;      /* which all of this is counted in, too; NULL: this is the whole */
    struct quota *disk_quota; /* that chunks and attachments on disk are charged to; NULL: none */
    _Atomic uint64_t pages_bytes, tails_bytes;           /* what is shared counted once */
    _Atomic uint64_t key_summaries_bytes;                /* of these pages_bytes */
    _Atomic uint64_t pages_full_bytes, tails_full_bytes; /* with each session that has it */
    _Atomic uint64_t sessions_bytes;
    struct usage_attachments attachments, batches;
    _Atomic uint64_t attachments_damaged;           /* found since the start */
    _Atomic uint64_t entries;                       /* of batches, with each session that has it */
    _Atomic uint64_t sessions, tokens, tail_tokens; /* shared tokens with each session */
    _Atomic uint64_t chains;                        /* of blocks: not among the sessions */
    _Atomic uint64_t values, logical_bytes;         /* of these tokens; bytes as they came */
    _Atomic uint64_t sessions_created, sessions_deleted;
    _Atomic uint64_t appended_tokens, appended_bytes; /* since the start; bytes as they came */
    _Atomic uint64_t
        loosened; /* times that a chunk, let go by one session, may be coarser for it */
    _Atomic uint64_t shared_chunks, shared_bytes; /* since the start: let go for others' chunks */
    _Atomic uint64_t chunk_id_clock;     /* the largest id that a chunk was given; of the whole */
    _Atomic uint64_t tail_logical_bytes; /* of tail_tokens */
    struct usage_count levels[USAGE_LEVELS], sinks; /* of chunks, once; by level - PAGE_LEVEL_MIN */
    struct usage_count disk[USAGE_LEVELS]; /* of chunks on disk, by their coarsest page's level */
};

static inline struct usage *usage_whole(struct usage *usage) {
    return usage->whole ? usage->whole : usage;
}

/* To a field of this usage. Sums wrap around: subtracting is adding the negative. */
static inline void usage_add(struct usage *usage, _Atomic uint64_t *field, uint64_t more) {
    size_t at = (size_t)((char *)field - (char *)usage);
    atomic_fetch_add(field, more);
    if (usage->whole)
        atomic_fetch_add((_Atomic uint64_t *)(void *)((char *)usage->whole + at), more);
}

static inline void usage_sub(struct usage *usage, _Atomic uint64_t *field, uint64_t less) {
    usage_add(usage, field, -less);
}

/* The first of so many ids, none of which comes twice. */
static inline uint64_t usage_next_id(struct usage *usage, uint64_t count) {
    return atomic_fetch_add(&usage_whole(usage)->chunk_id_clock, count) + 1;
}

#endif
