#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

static void print_result(const struct options *options, uint64_t sessions) {
    char count[WORD_BYTES];
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_count(&json, "sessions", sessions);
        json_close_object(&json);
        json_end(&json);
    } else if (options->argument_count > 0) {
        printf("%s is on disk\n", options->arguments[0]);
    } else {
        printf("%s sessions are on disk\n", count_text(sessions, count));
    }
}

static enum exit_status run(const struct options *options) {
    const char *session = options->argument_count > 0 ? options->arguments[0] : NULL;
    uint64_t sessions;
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error = kvq_flush(client, session, &sessions);
    if (error)
        return session ? report_session_failure(client, error, session)
                       : report_failure(client, error);
    print_result(options, sessions);
    return EXIT_DONE;
}

const struct command flush_command = {
    .name = "flush",
    .arguments = "[SESSION]",
    .argument_count = 1,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "bring a session, or all of them, to disk",
    .help =
        "Returns when the session, or all that there are and all blocks by key, would outlast a "
        "loss of power as they are now: whatever their durability. The daemon needs a disk (`disk` "
        "in its "
        "configuration). Sessions imported with --durable are on disk without it.",
    .run = run,
};
