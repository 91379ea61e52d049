#include "client/cli/command.h"
#include "client/cli/show.h"

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error = show_session(client, options->arguments[0], options->given & OPTION_JSON);
    return error ? report_session_failure(client, error, options->arguments[0]) : EXIT_DONE;
}

const struct command info_command = {
    .name = "info",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "show what a session holds, takes and has lost",
    .help = "Shows a session: its model, tokens, bytes given and stored, ratio between these, "
            "bits a value, signal-to-noise of K and V (-: exact), and the tokens and bytes at "
            "each level.",
    .run = run,
};
