/* The command line: one row an option, which --help and the manual page print.
 *
 * Keeps pointers into argv.
 */
#ifndef DAEMON_BASE_COMMAND_LINE_H
#define DAEMON_BASE_COMMAND_LINE_H

#include "daemon/base/config.h"

enum command {
    COMMAND_RUN,
    COMMAND_CHECK_CONFIG,
    COMMAND_PRINT_CONFIG,
    COMMAND_PRINT_MANUAL,
    COMMAND_PRINT_CONFIG_MANUAL,
    COMMAND_PRINT_VERSION,
    COMMAND_PRINT_HELP
};

struct command_option {
    const char *name;
    const char *argument; /* NULL: none */
    const char *sets;     /* the option of the configuration that it overrides; NULL: none */
    enum command command; /* what it asks for; COMMAND_RUN: nothing but to run */
    const char *text;     /* NULL: it is not shown */
};

extern const struct command_option command_options[];
extern const int command_option_count;

enum { COMMAND_OPTIONS_MAX = 16 };

struct command_line {
    enum command command;
    const char *config_path;                    /* NULL: none */
    const char *overrides[COMMAND_OPTIONS_MAX]; /* by row; NULL: not given */
};

/* 0, or -1, said on standard error. */
int command_line_parse(struct command_line *line, int count, char **values)
    __attribute__((warn_unused_result));

/* The configuration by its defaults, the file and the overrides. 0, or -1 with the fault in
 * message. */
int command_line_configure(const struct command_line *line, struct config *config, char *message,
                           int message_bytes) __attribute__((warn_unused_result));

#endif
