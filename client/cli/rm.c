#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    uint64_t freed_bytes;
    int error = kvq_delete(client, options->arguments[0], &freed_bytes);
    if (error)
        return report_failure(client, error);
    char text[WORD_BYTES];
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_string(&json, "session", options->arguments[0]);
        json_count(&json, "freed_bytes", freed_bytes);
        json_close_object(&json);
        json_end(&json);
    } else {
        printf("%s is deleted, %s freed\n", options->arguments[0], bytes_text(freed_bytes, text));
    }
    return EXIT_DONE;
}

const struct command rm_command = {
    .name = "rm",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTION_SOCKET | OPTION_JSON,
    .summary = "delete a session",
    .help = "Deletes a session. Once this has ended, nobody is ever given any of it.",
    .run = run,
};
