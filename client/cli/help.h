/* What `kvq --help`, `kvq COMMAND --help` and the manual page say beside the tables of commands and
 * options. */
#ifndef CLIENT_CLI_HELP_H
#define CLIENT_CLI_HELP_H

#include "client/cli/command.h"

#include <stdio.h>

extern const char introduction_text[], socket_text[], exit_status_text[];

/* Options that all commands take. */
enum { COMMON_OPTIONS = OPTIONS_DAEMON | OPTION_JSON };

struct example {
    const char *line, *purpose;
};
extern const struct example examples[];
extern const int example_count;

/* Fills lines up to 80 columns; line breaks of the text stay. */
void print_wrapped(FILE *out, int indent, const char *text);

void print_help(FILE *out);
void print_command_help(const struct command *command);

/* kvq(1), for man. */
void print_manual_page(void);

/* The script that makes bash complete kvq's command lines. */
void print_completion(void);

#endif
