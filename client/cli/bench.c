#include "client/cli/bench.h"

#include "client/cli/append.h"
#include "client/cli/model_values.h"
#include "client/cli/progress.h"
#include "client/cli/temporary.h"

#include <stdlib.h>

static uint16_t *draw_part(const struct bench_values *values, enum kvq_part part, uint64_t seed) {
    const struct kvq_geometry *geometry = &values->geometry;
    uint32_t head_dim = part == KVQ_K ? geometry->head_dim_k : geometry->head_dim_v;
    size_t layer_values = values->tokens * geometry->heads * head_dim;
    uint16_t *drawn = reallocarray(NULL, layer_values * geometry->layers, sizeof *drawn);
    for (uint32_t layer = 0; drawn && layer < geometry->layers; layer++)
        if (!model_values_fill(drawn + layer * layer_values, values->tokens, geometry->heads,
                               head_dim, part, seed + layer)) {
            free(drawn);
            return NULL;
        }
    return drawn;
}

bool bench_values_draw(struct bench_values *values, uint64_t seed) {
    bool has_v = values->geometry.head_dim_v > 0;
    values->k = draw_part(values, KVQ_K, seed);
    values->v = has_v ? draw_part(values, KVQ_V, seed) : NULL;
    if (values->k && (values->v || !has_v))
        return true;
    bench_values_free(values);
    complain("no memory for %llu MiB of values",
             (unsigned long long)(bench_values_bytes(values) >> 20));
    return false;
}

void bench_values_free(struct bench_values *values) {
    free(values->k);
    free(values->v);
    values->k = values->v = NULL;
}

uint64_t bench_values_bytes(const struct bench_values *values) {
    return values->tokens * token_bytes_of(&values->geometry);
}

int bench_store(struct kvq_client *client, const struct bench_values *values, int level,
                struct kvq_session_state *state) {
    char name[TEMPORARY_NAME_BYTES];
    temporary_name(BENCH_PREFIX, name);
    struct kvq_open_options open = {
        .size = sizeof open,
        .session = name,
        .model = "kvq bench",
        .geometry = &values->geometry,
        .has_level = true,
        .level = level,
        .mode = KVQ_OPEN_NEW,
    };
    int error = kvq_open(client, &open, state);
    if (error)
        return error;
    struct kvq_geometry only_k = values->geometry, only_v = values->geometry;
    only_k.head_dim_v = only_v.head_dim_k = 0;
    uint64_t layers = values->geometry.layers;
    struct kvq_source k = {.block = values->k}, v = {.block = values->v};
    k.layer_stride = (ptrdiff_t)(values->tokens * token_bytes_of(&only_k) / layers);
    v.layer_stride = (ptrdiff_t)(values->tokens * token_bytes_of(&only_v) / layers);
    struct progress silent = {0};
    error = append_all(client, state, &k, &v, NULL, values->tokens, &silent);
    if (error)
        remove_session(client, state->session);
    return error;
}
