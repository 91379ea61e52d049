#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

static void print_result(const struct options *options, const struct kvq_session_state *forked) {
    char tokens[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s has the first %s tokens of %s\n", forked->session,
               count_text(forked->tokens, tokens), options->arguments[0]);
        return;
    }
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", forked->session);
    json_string(&json, "forked_from", options->arguments[0]);
    json_string(&json, "model", forked->model);
    json_count(&json, "version", forked->version);
    json_count(&json, "tokens", forked->tokens);
    json_count(&json, "tail_tokens", forked->tail_tokens);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_session_state state, forked;
    int error = kvq_find(client, options->arguments[0], &state);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    struct kvq_fork_options fork = {
        .size = sizeof fork,
        .target = options->arguments[1],
        .tokens = options->first_tokens,
    };
    error = kvq_fork(client, &state, &fork, &forked);
    if (error == KVQ_EXISTS) {
        complain("session %s exists; choose another name, or `kvq rm` it", options->arguments[1]);
        return EXIT_FAILED;
    }
    if (error == KVQ_MISS && fork.tokens > state.tokens)
        return report_too_few_tokens(&state);
    if (error)
        return report_failure(client, error);
    print_result(options, &forked);
    return EXIT_DONE;
}

const struct command fork_command = {
    .name = "fork",
    .arguments = "SESSION NEW",
    .argument_count = 2,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_FIRST_TOKENS,
    .summary = "make a second session of a session's tokens",
    .help = "Makes session NEW of the tokens of SESSION, or of its first N. No K or V is copied: "
            "both sessions share what they have in common, and from then on each changes by "
            "itself. A session NEW that exists is an error.",
    .run = run,
};
