#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

enum {
    CONDITIONS = OPTION_PREFIX | OPTION_MODEL | OPTION_IDLE | OPTION_OLDER,
    BULK_ONLY = CONDITIONS | OPTION_PINNED_TOO | OPTION_DRY_RUN,
};

static enum exit_status delete_one(struct kvq_client *client, const struct options *options) {
    uint64_t freed_bytes;
    int error = kvq_delete(client, options->arguments[0], &freed_bytes);
    if (error)
        return report_session_failure(client, error, options->arguments[0]);
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

static void print_deleted(const struct options *options, const struct kvq_deleted *deleted) {
    bool dry = options->given & OPTION_DRY_RUN;
    char count[WORD_BYTES], bytes[WORD_BYTES];
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_count(&json, "sessions", deleted->sessions);
        json_count(&json, "freed_bytes", deleted->freed_bytes);
        json_bool(&json, "dry_run", dry);
        json_close_object(&json);
        json_end(&json);
        return;
    }
    printf("%s session%s %s deleted, %s freed\n", count_text(deleted->sessions, count),
           deleted->sessions == 1 ? "" : "s",
           dry                      ? "would be"
           : deleted->sessions == 1 ? "is"
                                    : "are",
           bytes_text(deleted->freed_bytes, bytes));
}

static enum exit_status delete_many(struct kvq_client *client, const struct options *options) {
    struct kvq_delete_many_options conditions = {
        .size = sizeof conditions,
        .prefix = options->prefix,
        .model = options->model,
        .idle_ms = options->idle_ms,
        .age_ms = options->older_ms,
        .pinned_too = options->given & OPTION_PINNED_TOO,
        .dry_run = options->given & OPTION_DRY_RUN,
        .deadline_ms = -1,
    };
    struct kvq_deleted deleted;
    int error = kvq_delete_many(client, &conditions, &deleted);
    if (error)
        return report_failure(client, error);
    if (deleted.sessions == 0) {
        complain("no session is so%s; `kvq sessions` lists what is there",
                 options->given & OPTION_PINNED_TOO ? "" : " and not pinned");
        return EXIT_MISS;
    }
    print_deleted(options, &deleted);
    return EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    bool one = options->argument_count > 0;
    if (one && options->given & BULK_ONLY)
        return usage_error(&rm_command, "SESSION and conditions exclude each other", "");
    if (!one && !(options->given & CONDITIONS))
        return usage_error(&rm_command, "what? SESSION, --prefix, --model, --idle or --older", "");
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    return one ? delete_one(client, options) : delete_many(client, options);
}

const struct command rm_command = {
    .name = "rm",
    .arguments = "[SESSION]",
    .argument_count = 1,
    .optional_arguments = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | BULK_ONLY,
    .summary = "delete a session, or all that are so",
    .help = "Deletes a session; or, without SESSION, all sessions of which every condition given "
            "holds: --prefix, --model, --idle, --older. Pinned sessions are left out of that "
            "without --pinned-too. Once this has ended, nobody is ever given any of them. If no "
            "session is so, the exit status is 3. --older 1ms is true of all.\n\n"
            "Bytes that sessions share are freed with the last of them; --dry-run says the sum of "
            "what deleting each by itself would free.",
    .run = run,
};
