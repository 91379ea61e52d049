#include "tests/bench/workload.h"

#include "tests/bench/fail.h"
#include "tests/bench/kv_values.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_TOKENS = 128, SINK_TOKENS = 4, SPOIL_BYTES = 4096 };

static const struct workload shapes[] = {
    {.shape = "8x128",
     .geometry = {.layers = 32, .heads = 8, .head_dim_k = 128, .head_dim_v = 128, .dtype = KVQ_F16},
     .tokens = 256},
    {.shape = "3x64",
     .geometry = {.layers = 30, .heads = 3, .head_dim_k = 64, .head_dim_v = 64, .dtype = KVQ_F16},
     .tokens = 1024},
};

static size_t token_bytes(const struct workload *workload) {
    return (size_t)workload->geometry.heads * workload->geometry.head_dim_k * 2;
}

static void fill(struct workload *workload, uint32_t session) {
    size_t layer_bytes = workload->tokens * token_bytes(workload);
    for (uint32_t l = 0; l < 2 * workload->geometry.layers; l++) {
        bool is_k = l < workload->geometry.layers;
        kv_values_fill((uint16_t *)(void *)(workload->source[session] + l * layer_bytes),
                       workload->tokens, token_bytes(workload) / 2, is_k ? 2.0f : 0.2f,
                       1000 * session + l);
    }
}

void workload_init(struct workload *workload, const char *shape, uint32_t sessions) {
    size_t i = 0, count = sizeof shapes / sizeof *shapes;
    while (i < count && strcmp(shapes[i].shape, shape) != 0)
        i++;
    if (i == count || sessions < 1 || sessions > WORKLOAD_SESSIONS_MAX)
        fail_because("no workload of %u sessions of shape %s", sessions, shape);
    *workload = shapes[i];
    workload->sessions = sessions;
    workload->part_bytes = workload->geometry.layers * workload->tokens * token_bytes(workload);
    workload->session_bytes = 2 * workload->part_bytes;
    workload->page_bytes = PAGE_TOKENS * token_bytes(workload);
    for (uint32_t s = 0; s < sessions; s++) {
        workload->source[s] = touched_memory(workload->session_bytes);
        workload->target[s] = touched_memory(workload->session_bytes);
        fill(workload, s);
    }
}

void workload_deinit(struct workload *workload) {
    for (uint32_t s = 0; s < workload->sessions; s++) {
        free(workload->source[s]);
        free(workload->target[s]);
    }
}

void workload_spoil_targets(struct workload *workload) {
    for (uint32_t s = 0; s < workload->sessions; s++)
        for (size_t at = 0; at < workload->session_bytes; at += SPOIL_BYTES)
            workload->target[s][at] = (char)~workload->source[s][at];
}

void workload_verify(const struct workload *workload, bool exact, const char *contender) {
    size_t bytes = exact ? workload->session_bytes : SINK_TOKENS * token_bytes(workload);
    for (uint32_t s = 0; s < workload->sessions; s++)
        if (memcmp(workload->source[s], workload->target[s], bytes) != 0)
            fail_because("session %u came back from %s with other values", s, contender);
}
