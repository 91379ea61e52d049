#include "client/cli/cache_file.h"
#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"
#include "client/cli/words.h"

/* What is exported: the ranges asked for, closed by the session's own ends. */
struct selection {
    struct range tokens, layers;
};

static enum exit_status select_ranges(const struct options *options,
                                      const struct kvq_session_state *state,
                                      struct selection *selection) {
    *selection = (struct selection){options->tokens, options->layers};
    if (selection->tokens.end == 0)
        selection->tokens.end = state->tokens;
    if (selection->layers.end == 0)
        selection->layers.end = state->geometry.layers;
    if (selection->layers.end > state->geometry.layers ||
        selection->layers.first >= selection->layers.end) {
        complain("session %s has layers 0:%u only", state->session, state->geometry.layers);
        return EXIT_FAILED;
    }
    if (selection->tokens.end > state->tokens || selection->tokens.first >= state->tokens)
        return report_too_few_tokens(state);
    return EXIT_DONE;
}

static int fetch(struct kvq_client *client, const struct kvq_session_state *state,
                 const struct selection *selection, const struct cache_output *output,
                 struct kvq_fetch_result *result) {
    struct progress progress;
    progress_init(&progress, "exporting", output->map_bytes);
    struct kvq_fetch_options fetch = {
        .size = sizeof fetch,
        .first = selection->tokens.first,
        .end = selection->tokens.end,
        .first_layer = (uint32_t)selection->layers.first,
        .end_layer = (uint32_t)selection->layers.end,
        .k = output->k,
        .v = output->v,
        .deadline_ms = -1,
        .progress = progress_report,
        .context = &progress,
    };
    int error = kvq_fetch(client, state, &fetch, result);
    progress_end(&progress);
    return error;
}

static void print_result(const struct options *options, const struct kvq_session_state *state,
                         const struct selection *selection, const struct kvq_fetch_result *result) {
    char tokens[WORD_BYTES], bytes[WORD_BYTES];
    const char *path = options->arguments[1];
    if (!(options->given & OPTION_JSON)) {
        printf("%s: %s tokens, %s\n", path, count_text(result->tokens, tokens),
               bytes_text(result->bytes, bytes));
        return;
    }
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", state->session);
    json_string(&json, "file", path);
    json_count(&json, "version", result->version);
    json_count(&json, "first", selection->tokens.first);
    json_count(&json, "tokens", result->tokens);
    json_count(&json, "first_layer", selection->layers.first);
    json_count(&json, "layers", selection->layers.end - selection->layers.first);
    json_string(&json, "dtype", dtype_name(state->geometry.dtype));
    json_count(&json, "bytes", result->bytes);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status export_session(const struct options *options, struct kvq_client *client,
                                       struct cache_output *output) {
    struct kvq_session_state state;
    struct selection selection;
    struct kvq_fetch_result result;
    int error = kvq_find(client, options->arguments[0], &state);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    enum exit_status status = select_ranges(options, &state, &selection);
    if (status != EXIT_DONE)
        return status;
    struct kvq_geometry geometry = state.geometry;
    geometry.layers = (uint32_t)(selection.layers.end - selection.layers.first);
    uint64_t tokens = selection.tokens.end - selection.tokens.first;
    progress_catch_signals();
    if (!cache_output_open(options->arguments[1], &geometry, tokens, output))
        return EXIT_FAILED;
    error = fetch(client, &state, &selection, output, &result);
    if (error)
        return report_failure(client, error);
    if (!cache_output_finish(output))
        return EXIT_FAILED;
    print_result(options, &state, &selection, &result);
    return EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    struct cache_output output = {0};
    enum exit_status status = connect_client(options, &client);
    if (status == EXIT_DONE)
        status = export_session(options, client, &output);
    cache_output_close(&output);
    return status;
}

const struct command export_command = {
    .name = "export",
    .arguments = "SESSION FILE",
    .argument_count = 2,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_TOKENS | OPTION_LAYERS,
    .summary = "write a session, or a part of it, to a file",
    .help =
        "Writes K and V in the session's dtype (bfloat16 as uint16, 8-bit floats as uint8) to an "
        ".npy file, "
        "[layers, 2, tokens, heads, head_dim]; or, if the name ends in .npz, to one with k and, "
        "if the model keeps V, v: [layers, tokens, heads, head_dim]. The file is there whole or "
        "not at all.",
    .run = run,
};
