/* Embeddings of a session's tokens, from files. */
#include "client/cli/command.h"
#include "client/cli/entries.h"
#include "client/cli/file_map.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/words.h"

#include <stdio.h>

static void print_result(const struct options *options, const char *what, uint64_t count,
                         const struct kvq_index_result *result) {
    char done[WORD_BYTES], there[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s embeddings %s; %s has %s\n", count_text(count, done), what,
               options->arguments[0], count_text(result->entries, there));
        return;
    }
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", options->arguments[0]);
    json_count(&json, what, count);
    json_count(&json, "replaced", what[0] == 'i' ? result->changed : 0);
    json_count(&json, "entries", result->entries);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status send(const struct options *options, const struct npy_array *array,
                             const struct entries *entries) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_index_result result = {0};
    struct kvq_index_options request = {
        .size = sizeof request,
        .dim = (uint32_t)array->shape[1],
        .dtype = array->dtype,
        .metric = options->metric,
        .entries = entries->entries,
        .count = entries->count,
        .vectors = array->values,
    };
    int error = kvq_index(client, options->arguments[0], &request, &result);
    if (error)
        return report_failure(client, error);
    print_result(options, "indexed", entries->count, &result);
    return EXIT_DONE;
}

static bool check(const char *path, const struct npy_array *array, const struct entries *entries) {
    if (array->rank != 2 || array->shape[1] == 0 || array->shape[1] > KVQ_DIM_MAX ||
        (array->dtype != KVQ_F32 && array->dtype != KVQ_F16))
        complain("%s: embeddings are [count, dim] in float32 or float16, dim at most %d", path,
                 KVQ_DIM_MAX);
    else if (array->shape[0] != entries->count)
        complain("%s has %llu embeddings, and there are %zu ranges", path,
                 (unsigned long long)array->shape[0], entries->count);
    else
        return true;
    return false;
}

static enum exit_status index_file(const struct options *options, const struct entries *entries) {
    const char *path = options->arguments[1];
    struct file_map map;
    struct npy_array array;
    if (!file_map_open(path, &map))
        return EXIT_FAILED;
    enum exit_status status = EXIT_FAILED;
    if (npy_parse(path, map.bytes, map.count, KVQ_DTYPE_UNSET, &array) &&
        check(path, &array, entries))
        status = send(options, &array, entries);
    file_map_close(&map);
    return status;
}

static enum exit_status run_index(const struct options *options) {
    struct entries entries;
    if (!(options->given & OPTION_RANGES))
        return usage_error(&index_command, "--ranges FILE is missing", "");
    enum exit_status status =
        entries_open(options->ranges, &entries) ? index_file(options, &entries) : EXIT_FAILED;
    entries_close(&entries);
    return status;
}

static enum exit_status run_unindex(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    if (options->given & OPTION_LABEL && options->given & OPTION_TOKENS)
        return usage_error(&unindex_command, "it is --label or --tokens, not both", "");
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_index_result result;
    struct kvq_unindex_options request = {
        .size = sizeof request,
        .labels = &options->label,
        .label_count = options->given & OPTION_LABEL ? 1 : 0,
        .first = options->tokens.first,
        .end = options->tokens.end,
    };
    int error = kvq_unindex(client, options->arguments[0], &request, &result);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    print_result(options, "deleted", result.changed, &result);
    return EXIT_DONE;
}

const struct command index_command = {
    .name = "index",
    .arguments = "SESSION FILE",
    .argument_count = 2,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_RANGES | OPTION_METRIC,
    .summary = "let its tokens be found by embeddings",
    .help =
        "Takes embeddings from an .npy file, [count, dim] in float32 or float16, and from --ranges "
        "a line for each: its tokens as A:B and, behind tabs, a label and metadata, where it has "
        "any. An embedding takes the place of the session's one of the same label, and goes with "
        "the first of its tokens that is truncated or evicted.",
    .run = run_index,
};

const struct command unindex_command = {
    .name = "unindex",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_LABEL | OPTION_TOKENS,
    .summary = "delete embeddings of a session",
    .help = "Deletes the embedding of a label, those of which a token is among --tokens, or with "
            "neither all. The session's tokens stay.",
    .run = run_unindex,
};
