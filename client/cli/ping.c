#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <time.h>

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    double start = now_seconds();
    int error = kvq_ping(client);
    if (error)
        return report_failure(client, error);
    double microseconds = 1e6 * (now_seconds() - start);
    if (options->given & OPTION_JSON) {
        struct json json = {.out = stdout};
        json_open_object(&json, NULL);
        json_string(&json, "socket", kvq_client_socket(client));
        json_string(&json, "tenant", kvq_client_tenant(client));
        json_string(&json, "role", role_name(kvq_client_role(client)));
        json_real(&json, "microseconds", microseconds);
        json_close_object(&json);
        json_end(&json);
    } else {
        printf("%s answers in %.0f us; this is a%s %s of the tenant %s\n",
               kvq_client_socket(client), microseconds,
               kvq_client_role(client) == KVQ_ROLE_ADMIN ? "n" : "",
               role_name(kvq_client_role(client)), kvq_client_tenant(client));
    }
    return EXIT_DONE;
}

const struct command ping_command = {
    .name = "ping",
    .arguments = "",
    .argument_count = 0,
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "see whether the daemon answers",
    .help = "Asks the daemon for an answer and says how long it took, and whose client this is, in "
            "which role.",
    .run = run,
};
