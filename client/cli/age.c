#include "client/cli/command.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

#include <string.h>

static void print_json(const char *session, bool settled, const struct kvq_aged *aged) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "session", session);
    show_level_json(&json, "level", aged->level);
    json_count(&json, "stored_bytes_before", aged->stored_bytes_before);
    json_count(&json, "stored_bytes", aged->stored_bytes);
    json_bool(&json, "settled", settled);
    json_close_object(&json);
    json_end(&json);
}

static void print_text(const char *session, bool settled, const struct kvq_aged *aged) {
    char before[WORD_BYTES], now[WORD_BYTES];
    bytes_text(aged->stored_bytes_before, before);
    if (settled)
        printf("%s is at level %s: %s, of %s before\n", session, level_name(aged->level),
               bytes_text(aged->stored_bytes, now), before);
    else
        printf("%s goes to level %s from %s\n", session, level_name(aged->level), before);
}

static enum exit_status run(const struct options *options) {
    const char *session = options->arguments[0];
    if (!(options->given & OPTION_LEVEL))
        return usage_error(&age_command, "--level LEVEL is missing", "");
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_patient_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_session_info info = {.level = KVQ_LEVEL_EXACT};
    int error = options->tenant ? KVQ_OK : kvq_info(client, session, &info);
    if (!error && options->level < info.level) {
        complain(
            "session %s is at level %s; choose a coarser one: what was lost does not come back",
            session, level_name(info.level));
        return EXIT_FAILED;
    }
    struct kvq_aged aged;
    bool settled = !(options->given & OPTION_NO_WAIT);
    if (!error)
        error = kvq_age_of(client, options->tenant ? options->tenant : "", session, options->level,
                           settled, &aged);
    if (error)
        return report_session_failure(client, error, session);
    if (options->given & OPTION_JSON)
        print_json(session, settled, &aged);
    else
        print_text(session, settled, &aged);
    return EXIT_DONE;
}

const struct command age_command = {
    .name = "age",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_LEVEL | OPTION_NO_WAIT | OPTION_TENANT,
    .summary = "bring a session to a coarser level",
    .help =
        "Codes what a session holds anew at a coarser level, and from now on what is appended "
        "to it; --level is required. Ends when that is done and says what it took before and "
        "takes now; Ctrl-C ends the waiting, not the work. What a session shares with "
        "another stays as fine as the finer of the two, and what is lossy already as it is where "
        "decibels were promised (import --min-snr-db). A finer level than the session's is "
        "refused: what was lost does not come back.",
    .run = run,
};
