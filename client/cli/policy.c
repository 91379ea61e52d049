#include "client/cli/command.h"
#include "client/cli/show.h"

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    const char *session = options->arguments[0];
    struct kvq_policy policy;
    bool changes = options->given & OPTIONS_POLICY;
    int error = kvq_policy(client, session, changes ? &options->policy : NULL, &policy);
    if (error)
        return report_session_failure(client, error, session);
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        show_policy_json(&json, NULL, &policy);
        json_end(&json);
    } else {
        show_policy(&policy);
    }
    return EXIT_DONE;
}

const struct command policy_command = {
    .name = "policy",
    .arguments = "SESSION",
    .argument_count = 1,
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTIONS_POLICY,
    .summary = "show or change how a session is kept",
    .help = "Shows how a session is kept, after changing what is given: the level of its newest "
            "tokens, how it gets coarser while nobody uses it and where memory is short, and when "
            "it is deleted. A session is used when it is opened, appended to, fetched, forked or "
            "truncated. What is coarser already stays so; the level itself is changed by "
            "`kvq age`.",
    .run = run,
};
