/* Random programs for the model check: steps whose numbers mean something only where they are
 * played, so that a program stays one when some of its steps are left out. */
#ifndef TESTS_FAULTS_STEPS_H
#define TESTS_FAULTS_STEPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum step_kind {
    STEP_OPEN,
    STEP_APPEND,
    STEP_APPEND_BEGIN, /* an append in pieces, with other steps between them */
    STEP_APPEND_PUT,
    STEP_APPEND_COMMIT,
    STEP_APPEND_DROP,
    STEP_FETCH,
    STEP_FETCH_BEGIN, /* a fetch in pieces */
    STEP_FETCH_NEXT,
    STEP_FORK,
    STEP_TRUNCATE,
    STEP_AGE,
    STEP_PIN,
    STEP_INFO,
    STEP_DELETE,
    STEP_DELETE_MANY,
    STEP_AWAIT_KEEPER,
    STEP_EVICT,
    STEP_MATCH,
    STEP_REST,    /* long enough that something is idle */
    STEP_SQUEEZE, /* leaves little memory, or as much as before */
    STEP_ATTACH,
    STEP_GET_ATTACHMENT,
    STEP_DETACH,
    STEP_INDEX,
    STEP_UNINDEX,
    STEP_RECALL,
    STEP_RECALL_KEYS, /* begins one, or goes on with it */
    STEP_BLOCK_PUT,
    STEP_BLOCK_GET,
    STEP_BLOCK_ACT, /* exists, touch, delete */
    STEP_BLOCK_EVICT,
    STEP_FLUSH, /* these where there is a disk */
    STEP_SPILL,
    STEP_RESTART,
    STEP_CRASH, /* a kill or a loss of power, some calls later */
    STEP_KINDS,
};

struct step {
    enum step_kind kind;
    uint32_t random[8];
};

/* Where and under what a program is played. */
struct world {
    uint64_t seed, memory_bytes;
    int landing_level;
    size_t codec_threads;
    bool idle_tails; /* tails are coded once nobody uses them, at tail_level */
    int tail_level;
    bool disk, encrypted;
    bool key_summaries; /* of most sessions, or of none */
    bool alike; /* sessions are of one model and one document, that they have much to share */
};

struct world world_of(uint64_t seed);

/* Step number index of the program with this seed. */
struct step step_of(uint64_t seed, size_t index);

#endif
