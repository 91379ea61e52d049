/* What `kvq --help` and `kvq COMMAND --help` print; the manual page says the same. */
#ifndef CLIENT_CLI_HELP_H
#define CLIENT_CLI_HELP_H

#include "client/cli/command.h"

#include <stdio.h>

/* Paragraphs of the introduction and of what holds for all commands. */
extern const char introduction_text[], socket_text[], exit_status_text[];

void print_help(FILE *out);
void print_command_help(const struct command *command);

#endif
