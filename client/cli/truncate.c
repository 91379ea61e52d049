#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

static void print_result(const struct options *options, const struct kvq_session_state *state,
                         uint64_t tokens_before) {
    char now[WORD_BYTES], before[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s has %s tokens, of %s before\n", state->session, count_text(state->tokens, now),
               count_text(tokens_before, before));
        return;
    }
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", state->session);
    json_count(&json, "version", state->version);
    json_count(&json, "tokens_before", tokens_before);
    json_count(&json, "tokens", state->tokens);
    json_count(&json, "tail_tokens", state->tail_tokens);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status run(const struct options *options) {
    uint64_t tokens;
    if (!number_from_text(options->arguments[1], &tokens))
        return usage_error(&truncate_command, "not a count of tokens:", options->arguments[1]);
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_session_state state;
    int error = kvq_find(client, options->arguments[0], &state);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    uint64_t tokens_before = state.tokens;
    error = kvq_truncate(client, &state, tokens);
    if (error == KVQ_MISS && tokens > tokens_before)
        return report_too_few_tokens(&state);
    if (error)
        return report_failure(client, error);
    print_result(options, &state, tokens_before);
    return EXIT_DONE;
}

const struct command truncate_command = {
    .name = "truncate",
    .arguments = "SESSION TOKENS",
    .argument_count = 2,
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "keep a session's first tokens and drop the rest",
    .help = "Keeps the first TOKENS tokens of a session; the others are gone. 0 leaves an empty "
            "session. More than there are is a miss, and nothing changes.",
    .run = run,
};
