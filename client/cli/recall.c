/* Finding the ranges of tokens that are nearest to a query. */
#include "client/cli/command.h"
#include "client/cli/file_map.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/recall_keys.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

#include <stdio.h>

enum { HITS = 8 }; /* without --k */

static const uint64_t of_embeddings = OPTION_MODEL | OPTION_QUERY | OPTION_METRIC |
                                      OPTION_MIN_SCORE | OPTION_LABEL | OPTION_NEWER | OPTION_MERGE;

static void print_json(const struct kvq_recalled *recalled) {
    struct json json = {.out = stdout};
    json_open_array(&json, NULL);
    for (size_t i = 0; i < recalled->count; i++) {
        const struct kvq_recall_hit *hit = &recalled->hits[i];
        json_open_object(&json, NULL);
        json_string(&json, "session", hit->session);
        json_count(&json, "version", hit->version);
        json_count(&json, "first", hit->first);
        json_count(&json, "tokens", hit->tokens);
        json_real(&json, "score", hit->score);
        json_string(&json, "label", hit->label);
        show_level_json(&json, "level", hit->level);
        json_count(&json, "bytes", hit->bytes);
        json_count(&json, "age_ms", hit->age_ms);
        json_close_object(&json);
    }
    json_close_array(&json);
    json_end(&json);
}

static void print_hits(const struct kvq_recalled *recalled) {
    char bytes[WORD_BYTES], range[2 * WORD_BYTES];
    if (recalled->count > 0)
        printf("%8s %17s %10s %6s SESSION  LABEL\n", "SCORE", "TOKENS", "BYTES", "LEVEL");
    for (size_t i = 0; i < recalled->count; i++) {
        const struct kvq_recall_hit *hit = &recalled->hits[i];
        snprintf(range, sizeof range, "%llu:%llu", (unsigned long long)hit->first,
                 (unsigned long long)hit->first + hit->tokens);
        printf("%8.4f %17s %10s %6s %s  %s\n", hit->score, range, bytes_text(hit->bytes, bytes),
               level_name(hit->level), hit->session, hit->label);
    }
}

static enum exit_status ask(const struct options *options, uint32_t k,
                            const struct npy_array *query) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_recalled recalled;
    struct kvq_recall_options request = {
        .size = sizeof request,
        .sessions = (const char *const *)options->arguments,
        .session_count = (size_t)options->argument_count,
        .model = options->model,
        .query = (const float *)(const void *)query->values,
        .dim = (uint32_t)query->shape[query->rank - 1],
        .metric = options->metric,
        .k = k,
        .has_min_score = (options->given & OPTION_MIN_SCORE) != 0,
        .min_score = options->min_score,
        .label = options->label,
        .first = options->tokens.first,
        .end = options->tokens.end,
        .newer_than_ms = options->newer_ms,
        .merge = (options->given & OPTION_MERGE) != 0,
    };
    int error = kvq_recall(client, &request, &recalled);
    if (error)
        return report_failure(client, error);
    if (options->given & OPTION_JSON)
        print_json(&recalled);
    else
        print_hits(&recalled);
    return EXIT_DONE;
}

static bool check(const char *path, const struct npy_array *query) {
    bool is_query = query->dtype == KVQ_F32 && query->rank > 0 && query->rank <= 2 &&
                    (query->rank == 1 || query->shape[0] == 1) &&
                    query->shape[query->rank - 1] <= KVQ_DIM_MAX;
    if (!is_query)
        complain("%s: a query is [dim] in float32, dim at most %d", path, KVQ_DIM_MAX);
    return is_query;
}

static enum exit_status recall(const struct options *options, uint32_t k) {
    struct file_map map;
    struct npy_array query;
    if (!file_map_open(options->query, &map))
        return EXIT_FAILED;
    enum exit_status status = EXIT_FAILED;
    if (npy_parse(options->query, map.bytes, map.count, KVQ_DTYPE_UNSET, &query) &&
        check(options->query, &query))
        status = ask(options, k, &query);
    file_map_close(&map);
    return status;
}

static enum exit_status run(const struct options *options) {
    uint32_t k = options->given & OPTION_K ? (uint32_t)options->k : HITS;
    if (!(options->given & (OPTION_QUERY | OPTION_QUERIES)))
        return usage_error(&recall_command, "--query FILE or --queries FILE is missing", "");
    if (options->given & OPTION_QUERIES) {
        if (options->argument_count != 1 || options->given & of_embeddings)
            return usage_error(&recall_command,
                               "--queries takes one session, --k, --tokens and --layers", "");
        return recall_keys(options, k);
    }
    if (options->argument_count == 0 && !(options->given & OPTION_MODEL))
        return usage_error(&recall_command, "it takes sessions, or --model for all of a model", "");
    if (options->given & OPTION_LAYERS || k > KVQ_RECALL_K_MAX)
        return usage_error(&recall_command, "--query takes no --layers, and a --k of 512 at most",
                           "");
    return recall(options, k);
}

const struct command recall_command = {
    .name = "recall",
    .arguments = "[SESSION]...",
    .argument_count = KVQ_RECALL_SESSIONS_MAX,
    .optional_arguments = KVQ_RECALL_SESSIONS_MAX,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MODEL | OPTION_TOKENS | OPTION_LAYERS |
               OPTION_QUERY | OPTION_QUERIES | OPTION_K | OPTION_METRIC | OPTION_MIN_SCORE |
               OPTION_LABEL | OPTION_NEWER | OPTION_MERGE,
    .summary = "find the ranges of tokens nearest to a query",
    .help =
        "With --query it says which ranges of the sessions, or of all sessions of --model, have "
        "the embeddings nearest to a query, [dim] in an .npy file of float32: best first, with "
        "their score, what they take and the coarsest of their levels. `kvq export SESSION "
        "--tokens A:B` has one of them. Only what every option given says is found.\n\n"
        "With --queries it says which blocks of 4 tokens of one session a model's queries attend "
        "to most, layer by layer, with the largest share of a query's attention, estimated: "
        "[layers, query_heads, head_dim] in an .npy file of float32, after RoPE, of the layers "
        "that --layers says. It takes a session that was imported with --key-summaries; its "
        "newest tokens, which are not coded yet, are not among them.",
    .run = run,
};
