/* `kvq doctor`: what of the machine and the daemon is not as it should be, and what to do. */
#include "client/cli/doctor.h"
#include "client/cli/command.h"
#include "client/cli/json.h"

#include <string.h>

static const struct checks *const groups[] = {&daemon_checks,      &limit_checks, &file_checks,
                                              &certificate_checks, &disk_checks,  &system_checks};
enum { GROUPS = sizeof groups / sizeof groups[0] };

static const char *const state_words[] = {"ok", "warn", "fail"};

static void print_text(const struct check *check, const struct finding *finding) {
    printf("%-4s  %-12s  %s%s%s\n", state_words[finding->state], check->name, finding->found,
           finding->advice[0] ? " -> " : "", finding->advice);
}

static void print_json(struct json *json, const struct check *check,
                       const struct finding *finding) {
    json_open_object(json, NULL);
    json_string(json, "check", check->name);
    json_string(json, "state", state_words[finding->state]);
    json_string(json, "found", finding->found);
    json_string(json, "advice", finding->advice[0] ? finding->advice : NULL);
    json_close_object(json);
}

/* Runs and prints all. Whether none failed. */
static bool run_checks(const struct machine *machine, struct json *json) {
    bool well = true;
    for (int i = 0; i < GROUPS; i++)
        for (int j = 0; j < groups[i]->count; j++) {
            const struct check *check = &groups[i]->rows[j];
            struct finding finding = {0};
            check->run(machine, &finding);
            well = well && finding.state != FINDING_FAIL;
            if (json)
                print_json(json, check, &finding);
            else
                print_text(check, &finding);
        }
    return well;
}

/* A daemon that is not there is a finding, no failure of this program. */
static void ask_daemon(const struct options *options, struct machine *machine,
                       struct kvq_client **client) {
    int error = open_client(options, 0, client);
    machine->socket = *client ? kvq_client_socket(*client) : "";
    if (!error)
        error = kvq_stats(*client, &machine->stats);
    machine->error = error;
    if (error)
        machine->failure = *client ? kvq_client_message(*client) : kvq_error_sentence(error);
    else if (strchr(machine->socket, '/'))
        machine_find_process(machine, machine->stats.pid);
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    struct machine machine = {.root = ""};
    ask_daemon(options, &machine, &client);
    settings_read(options->config, &machine);
    struct json json = {.out = stdout};
    bool as_json = options->given & OPTION_JSON;
    if (as_json)
        json_open_array(&json, NULL);
    bool well = run_checks(&machine, as_json ? &json : NULL);
    if (as_json) {
        json_close_array(&json);
        json_end(&json);
    }
    return well ? EXIT_DONE : EXIT_FAILED;
}

const struct command doctor_command = {
    .name = "doctor",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_CONFIG,
    .summary = "see what is not as it should be",
    .help = "Checks the daemon, its limits, its files and who may read them, its disk and this "
            "machine, and prints a line for each: ok, warn or fail, what was found, and what to do "
            "about it. The exit status is 1 if one failed. Nothing is changed; where there is a "
            "disk folder, up to 64 MiB are written there to a file without a name and read back, "
            "for two seconds at most. It needs no daemon and no rights: as another user than root "
            "and the daemon's it says what it could not see.",
    .run = run,
};
