#include "client/cli/command.h"
#include "client/cli/ids.h"
#include "client/cli/json.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

static void print_result(const struct options *options, const struct kvq_match *match,
                         uint64_t tokens) {
    char agreed[WORD_BYTES], all[WORD_BYTES];
    if (!(options->given & OPTION_JSON)) {
        printf("%s begins with %s of %s tokens\n", match->session,
               count_text(match->tokens, agreed), count_text(tokens, all));
        return;
    }
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", match->session);
    json_count(&json, "tokens", match->tokens);
    json_count(&json, "version", match->version);
    json_count(&json, "session_tokens", match->session_tokens);
    show_level_json(&json, "level", match->level);
    json_close_object(&json);
    json_end(&json);
}

static enum exit_status find(const struct options *options, const struct ids *ids) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_match match;
    struct kvq_match_options request = {
        .size = sizeof request,
        .model = options->model,
        .token_ids = ids->numbers,
        .tokens = ids->count,
    };
    int error = kvq_match(client, &request, &match);
    if (error)
        return report_failure(client, error);
    print_result(options, &match, ids->count);
    return EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    struct ids ids;
    if (!(options->given & OPTION_MODEL))
        return usage_error(&match_command, "--model NAME is missing", "");
    if (!(options->given & OPTION_IDS))
        return usage_error(&match_command, "--ids FILE is missing", "");
    enum exit_status status = ids_open(options->ids, &ids) ? find(options, &ids) : EXIT_FAILED;
    ids_close(&ids);
    return status;
}

const struct command match_command = {
    .name = "match",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MODEL | OPTION_IDS,
    .summary = "find the longest stored prefix of some tokens",
    .help = "Says which session of a model begins with the most of these tokens, and with how "
            "many: `kvq fork SESSION NEW --tokens N` then has them without a copy. Sessions are "
            "found that were stored with their token ids. --model and --ids are required. If "
            "there is none, the exit status is 3.",
    .run = run,
};
