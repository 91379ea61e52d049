#include "client/cli/append.h"

static uint64_t row_bytes(const struct kvq_geometry *geometry, uint32_t head_dim) {
    return (uint64_t)geometry->heads * head_dim * kvq_dtype_bytes(geometry->dtype);
}

uint64_t token_bytes_of(const struct kvq_geometry *geometry) {
    return geometry->layers *
           (row_bytes(geometry, geometry->head_dim_k) + row_bytes(geometry, geometry->head_dim_v));
}

int append_all(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_source *k, const struct kvq_source *v, const uint32_t *token_ids,
               uint64_t tokens, struct progress *progress) {
    const struct kvq_geometry *geometry = &state->geometry;
    int error = KVQ_OK;
    for (uint64_t done = 0; !error && done < tokens;) {
        uint64_t left = tokens - done;
        struct kvq_append_options append = {
            .size = sizeof append,
            .first = KVQ_AT_END,
            .tokens = left < state->append_tokens_max ? left : state->append_tokens_max,
            .k = *k,
            .v = *v,
            .settle = true,
            .deadline_ms = -1,
            .progress = progress_report,
            .context = progress,
            .token_ids = token_ids ? token_ids + done : NULL,
        };
        append.k.block = (const char *)k->block + done * row_bytes(geometry, geometry->head_dim_k);
        append.v.block = (const char *)v->block + done * row_bytes(geometry, geometry->head_dim_v);
        error = kvq_append(client, state, &append);
        done += append.tokens;
        progress->done_before_bytes = done * token_bytes_of(geometry);
    }
    return error;
}
