#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

enum { HOUR_MS = 3600 * 1000 };

static void print_result(const struct options *options, uint64_t lease_ms) {
    char time[WORD_BYTES];
    const char *session = options->arguments[0];
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_string(&json, "session", session);
        json_count(&json, "pinned_ms", lease_ms);
        json_close_object(&json);
        json_end(&json);
    } else if (lease_ms == 0) {
        printf("%s is not pinned\n", session);
    } else if (lease_ms < 1000) {
        printf("%s is pinned for %llu ms\n", session, (unsigned long long)lease_ms);
    } else {
        printf("%s is pinned for %s\n", session, seconds_text((double)lease_ms / 1000, time));
    }
}

static enum exit_status run(const struct options *options) {
    if ((options->given & OPTION_FOR) && (options->given & OPTION_OFF))
        return usage_error(&pin_command, "--for and --off exclude each other", "");
    uint64_t lease_ms = options->given & OPTION_OFF   ? 0
                        : options->given & OPTION_FOR ? options->for_ms
                                                      : HOUR_MS;
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    int error = kvq_pin(client, options->arguments[0], lease_ms);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
    print_result(options, lease_ms);
    return EXIT_DONE;
}

const struct command pin_command = {
    .name = "pin",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_FOR | OPTION_OFF,
    .summary = "keep a session from being deleted to make room",
    .help = "Pins a session for an hour from now, or for the time that --for says: deleting many "
            "leaves it out (`kvq rm` without --pinned-too), and so does whatever the daemon does "
            "to make room. Pinning again begins the time anew. `kvq rm SESSION`, age and truncate "
            "do what they say all the same.",
    .run = run,
};
