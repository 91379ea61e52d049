#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <string.h>

/* What was asked for by name: false if there is no such state. */
static bool state_from_word(const char *word, enum kvq_state *state) {
    static const char *const words[] = {"normal", "drain", "read-only"};
    for (int i = 0; i < 3; i++) {
        *state = (enum kvq_state)(KVQ_STATE_NORMAL + i);
        if (strcmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

static void print_result(const struct options *options, const struct kvq_control *control) {
    char used[WORD_BYTES], limit[WORD_BYTES];
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_string(&json, "state", state_name(control->state));
        json_count(&json, "limit_bytes", control->limit_bytes);
        json_count(&json, "used_bytes", control->used_bytes);
        json_close_object(&json);
        json_end(&json);
        return;
    }
    printf("the daemon is %s; %s of %s are in use%s\n", state_name(control->state),
           bytes_text(control->used_bytes, used), bytes_text(control->limit_bytes, limit),
           control->used_bytes > control->limit_bytes ? ", and room is being made" : "");
}

static enum exit_status run(const struct options *options) {
    struct kvq_control_options change = {.size = sizeof change};
    struct kvq_control control;
    if (options->argument_count == 1 && !state_from_word(options->arguments[0], &change.state))
        return usage_error(&control_command, "it is drain, read-only or normal, not ",
                           options->arguments[0]);
    if (options->given & OPTION_MEMORY)
        change.limit_bytes = options->memory_bytes;
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error = kvq_control(client, &change, &control);
    if (error)
        return report_failure(client, error);
    print_result(options, &control);
    return EXIT_DONE;
}

const struct command control_command = {
    .name = "control",
    .arguments = "[drain|read-only|normal]",
    .argument_count = 1,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_MEMORY,
    .summary = "change what the daemon takes",
    .help = "Drained, the daemon takes no new sessions, forks, appends, attachments or blocks; "
            "read-only, nothing changes but pins. What is stored is served in any case. normal "
            "ends both. With --memory the limit is another, up to twice that with which its pool "
            "of memory was made, at this start or at an earlier one that it was taken over from, "
            "until it reads its configuration again; where more is in use, room is made. Says how "
            "it is then, or with nothing given now.",
    .run = run,
};
