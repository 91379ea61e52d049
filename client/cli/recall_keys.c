#include "client/cli/recall_keys.h"

#include "client/cli/file_map.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/words.h"

#include <stdio.h>

static void print_layer_json(struct json *json, uint32_t layer,
                             const struct kvq_recalled_layer *recalled) {
    json_open_object(json, NULL);
    json_count(json, "layer", layer);
    json_count(json, "tokens", recalled->tokens);
    json_open_array(json, "ranges");
    for (size_t i = 0; i < recalled->count; i++) {
        json_open_object(json, NULL);
        json_count(json, "first", recalled->ranges[i].first);
        json_count(json, "tokens", recalled->ranges[i].tokens);
        json_real(json, "share", (double)recalled->ranges[i].share);
        json_close_object(json);
    }
    json_close_array(json);
    json_close_object(json);
}

static void print_json(const struct kvq_session_state *state, uint32_t first_layer,
                       const struct kvq_recalled_keys *recalled) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", state->session);
    json_count(&json, "version", recalled->version);
    json_open_array(&json, "layers");
    for (uint32_t i = 0; i < recalled->layer_count; i++)
        print_layer_json(&json, first_layer + i, &recalled->layers[i]);
    json_close_array(&json);
    json_close_object(&json);
    json_end(&json);
}

static void print_layer(uint32_t layer, const struct kvq_recalled_layer *recalled) {
    char range[2 * WORD_BYTES];
    for (size_t i = 0; i < recalled->count; i++) {
        uint64_t first = recalled->ranges[i].first;
        snprintf(range, sizeof range, "%llu:%llu", (unsigned long long)first,
                 (unsigned long long)first + recalled->ranges[i].tokens);
        printf("%6u %17s %8.4f\n", layer, range, (double)recalled->ranges[i].share);
    }
}

static void print_lines(uint32_t first_layer, const struct kvq_recalled_keys *recalled) {
    if (recalled->tokens > 0)
        printf("%6s %17s %8s\n", "LAYER", "TOKENS", "SHARE");
    for (uint32_t i = 0; i < recalled->layer_count; i++)
        print_layer(first_layer + i, &recalled->layers[i]);
}

/* That they are of the layers asked for; what else may be wrong with them the library says. */
static bool check(const struct options *options, const struct kvq_session_state *state,
                  const struct npy_array *queries) {
    const struct kvq_geometry *geometry = &state->geometry;
    uint64_t end = options->layers.end ? options->layers.end : geometry->layers;
    bool are_queries = queries->dtype == KVQ_F32 && queries->rank == 3 &&
                       options->layers.first < end &&
                       queries->shape[0] == end - options->layers.first &&
                       queries->shape[1] <= UINT32_MAX && queries->shape[2] == geometry->head_dim_k;
    if (!are_queries)
        complain("%s: queries are [layers, query_heads, head_dim] in float32, with layers as "
                 "--layers says and a head_dim of %u",
                 options->queries, geometry->head_dim_k);
    return are_queries;
}

static enum exit_status ask(const struct options *options, uint32_t k,
                            const struct npy_array *queries) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_session_state state;
    int error = kvq_find(client, options->arguments[0], &state);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    if (!check(options, &state, queries))
        return EXIT_FAILED;
    struct kvq_recalled_keys recalled;
    struct kvq_recall_keys_options request = {
        .size = sizeof request,
        .queries = (const float *)(const void *)queries->values,
        .query_heads = (uint32_t)queries->shape[1],
        .k = k,
        .first = options->tokens.first,
        .end = options->tokens.end,
        .first_layer = (uint32_t)options->layers.first,
        .end_layer = (uint32_t)options->layers.end,
    };
    error = kvq_recall_keys(client, &state, &request, &recalled);
    if (error)
        return report_failure(client, error);
    if (options->given & OPTION_JSON)
        print_json(&state, request.first_layer, &recalled);
    else
        print_lines(request.first_layer, &recalled);
    return EXIT_DONE;
}

enum exit_status recall_keys(const struct options *options, uint32_t k) {
    struct file_map map;
    struct npy_array queries;
    if (!file_map_open(options->queries, &map))
        return EXIT_FAILED;
    enum exit_status status = EXIT_FAILED;
    if (npy_parse(options->queries, map.bytes, map.count, KVQ_DTYPE_UNSET, &queries))
        status = ask(options, k, &queries);
    file_map_close(&map);
    return status;
}
