#include "tests/faults/steps.h"

#include "proto/page/page.h"
#include "tests/faults/values.h"

static const unsigned weights[STEP_KINDS] = {
    [STEP_OPEN] = 8,
    [STEP_APPEND] = 24,
    [STEP_APPEND_BEGIN] = 4,
    [STEP_APPEND_PUT] = 10,
    [STEP_APPEND_COMMIT] = 4,
    [STEP_APPEND_DROP] = 1,
    [STEP_FETCH] = 30,
    [STEP_FETCH_BEGIN] = 4,
    [STEP_FETCH_NEXT] = 10,
    [STEP_FORK] = 8,
    [STEP_TRUNCATE] = 8,
    [STEP_AGE] = 3,
    [STEP_PIN] = 1,
    [STEP_INFO] = 3,
    [STEP_DELETE] = 6,
    [STEP_DELETE_MANY] = 1,
    [STEP_AWAIT_KEEPER] = 1,
    [STEP_SQUEEZE] = 2,
    [STEP_EVICT] = 3,
    [STEP_MATCH] = 4,
    [STEP_REST] = 5,
    [STEP_BLOCK_PUT] = 8,
    [STEP_BLOCK_GET] = 8,
    [STEP_BLOCK_ACT] = 4,
    [STEP_BLOCK_EVICT] = 1,
    [STEP_FLUSH] = 4,
    [STEP_SPILL] = 6,
    [STEP_RESTART] = 1,
    [STEP_CRASH] = 1,
    [STEP_ATTACH] = 5,
    [STEP_GET_ATTACHMENT] = 5,
    [STEP_DETACH] = 1,
    [STEP_INDEX] = 6,
    [STEP_UNINDEX] = 1,
    [STEP_RECALL] = 4,
    [STEP_RECALL_KEYS] = 12,
};

struct world world_of(uint64_t seed) {
    static const uint64_t memory_mib[] = {14, 20, 64};
    static const int landing_levels[] = {PAGE_FAST8, PAGE_FAST8, PAGE_EXACT, 1};
    uint64_t random = values_mix(~seed);
    return (struct world){.seed = seed,
                          .memory_bytes = memory_mib[random % 3] << 20,
                          .landing_level = landing_levels[random >> 8 & 3],
                          .codec_threads = 1 + (random >> 16 & 1),
                          .idle_tails = random >> 25 & 1,
                          .tail_level = random >> 26 & 1 ? PAGE_FAST8 : PAGE_EXACT,
                          .disk = random >> 27 & 1,
                          .encrypted = random >> 28 & 1,
                          .key_summaries = random >> 29 & 1,
                          .alike = random >> 24 & 1};
}

static enum step_kind kind_of(uint64_t random) {
    unsigned sum = 0, kind = 0;
    for (int i = 0; i < STEP_KINDS; i++)
        sum += weights[i];
    unsigned at = (unsigned)(random % sum);
    while (at >= weights[kind])
        at -= weights[kind++];
    return kind;
}

struct step step_of(uint64_t seed, size_t index) {
    uint64_t random = values_mix(seed * 0x100000001b3u + index);
    struct step step = {.kind = kind_of(random)};
    for (size_t i = 0; i < sizeof step.random / sizeof *step.random; i++)
        step.random[i] = (uint32_t)(random = values_mix(random));
    return step;
}
