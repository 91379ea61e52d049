#include "daemon/base/command_line.h"

#include <assert.h>
#include <getopt.h>
#include <stdio.h>

const struct command_option command_options[] = {
    {"config", "FILE", NULL, COMMAND_RUN, "read options from FILE; SIGHUP has it read again"},
    {"socket", "PATH", "socket", COMMAND_RUN, "listen on this unix socket"},
    {"tcp", "HOST:PORT", "tcp", COMMAND_RUN, "listen on this port of the loopback interface, too"},
    {"tcp-token", "no|yes", "tcp_token", COMMAND_RUN, "whether clients need a token there"},
    {"memory", "SIZE", "memory", COMMAND_RUN, "the memory limit, such as 512M or 8G"},
    {"log-level", "LEVEL", "log_level", COMMAND_RUN, "error, warning, info or debug"},
    {"core-files", "no|yes", "core_files", COMMAND_RUN, "whether it may leave a core file"},
    {"check-config", NULL, NULL, COMMAND_CHECK_CONFIG,
     "say whether the configuration is valid, and end"},
    {"print-config", NULL, NULL, COMMAND_PRINT_CONFIG,
     "print a configuration file of all defaults, and end"},
    {"version", NULL, NULL, COMMAND_PRINT_VERSION, "print the version, and end"},
    {"help", NULL, NULL, COMMAND_PRINT_HELP, "print this, and end"},
    {"man", NULL, NULL, COMMAND_PRINT_MANUAL, NULL},
    {"man-config", NULL, NULL, COMMAND_PRINT_CONFIG_MANUAL, NULL},
};

enum { ROWS = sizeof command_options / sizeof command_options[0] };
static_assert((int)ROWS <= (int)COMMAND_OPTIONS_MAX, "every row can be given");

const int command_option_count = ROWS;

static void take(struct command_line *line, int row, const char *value) {
    const struct command_option *option = &command_options[row];
    if (option->command != COMMAND_RUN)
        line->command = option->command;
    else if (option->sets)
        line->overrides[row] = value;
    else
        line->config_path = value;
}

int command_line_parse(struct command_line *line, int count, char **values) {
    struct option rows[ROWS + 1] = {0};
    int row;
    *line = (struct command_line){0};
    for (int i = 0; i < ROWS; i++)
        rows[i] =
            (struct option){command_options[i].name,
                            command_options[i].argument ? required_argument : no_argument, NULL, i};
    while ((row = getopt_long(count, values, "", rows, NULL)) != -1) {
        if (row == '?') {
            fputs("try kvquantd --help\n", stderr);
            return -1;
        }
        take(line, row, optarg);
    }
    if (optind == count)
        return 0;
    fprintf(stderr, "kvquantd: %s is not an option; try kvquantd --help\n", values[optind]);
    return -1;
}

int command_line_configure(const struct command_line *line, struct config *config, char *message,
                           int message_bytes) {
    snprintf(message, (size_t)message_bytes, "no memory");
    int status = config_init(config);
    if (status == 0 && line->config_path)
        status = config_read(config, line->config_path, message, message_bytes);
    for (int row = 0; status == 0 && row < ROWS; row++)
        if (line->overrides[row])
            status = config_set(config, command_options[row].sets, line->overrides[row], message,
                                message_bytes);
    return status == 0 ? config_finish(config, message, message_bytes) : status;
}
