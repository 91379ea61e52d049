/* The words of a command line, held against the table of options. */
#include "client/cli/command.h"
#include "client/cli/help.h"

#include <getopt.h>
#include <stdio.h>

enum { HELP = 'h', FIRST_ROW = 256 };

enum exit_status usage_error(const struct command *command, const char *what, const char *detail) {
    complain("%s: %s%s%s; see `kvq %s --help`", command->name, what, detail[0] ? " " : "", detail,
             command->name);
    return EXIT_USAGE;
}

/* Those of the rows that the command takes; val is a row's number from FIRST_ROW on. */
static void list_options(const struct command *command, struct option *list) {
    for (int i = 0; i < OPTION_ROWS; i++) {
        const struct option_row *row = &option_rows[i];
        if (command->options & row->flag)
            *list++ = (struct option){row->name, row->value ? required_argument : no_argument, NULL,
                                      FIRST_ROW + i};
    }
    *list++ = (struct option){"help", no_argument, NULL, HELP};
    *list = (struct option){0};
}

static enum exit_status take_option(const struct command *command, const struct option_row *row,
                                    struct options *options) {
    char what[192];
    options->given |= row->flag;
    if (!row->parse || row->parse(optarg, options))
        return EXIT_DONE;
    snprintf(what, sizeof what, "--%s %s: %s; not \"%.40s\"", row->name, row->value, row->help,
             optarg);
    return usage_error(command, what, "");
}

static enum exit_status take_arguments(const struct command *command, int count, char **arguments,
                                       struct options *options) {
    if (count < command->argument_count - command->optional_arguments)
        return usage_error(command, "arguments are missing; it takes", command->arguments);
    if (count > command->argument_count)
        return usage_error(command, "too many arguments, from", arguments[command->argument_count]);
    options->arguments = arguments;
    options->argument_count = count;
    return EXIT_DONE;
}

enum exit_status parse_options(const struct command *command, int argc, char **argv,
                               struct options *options, bool *answered) {
    struct option list[OPTION_ROWS + 2];
    list_options(command, list);
    *options = (struct options){0};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":h", list, NULL)) != -1;) {
        if (option == HELP) {
            print_command_help(command);
            *answered = true;
            return EXIT_DONE;
        }
        if (option == ':')
            return usage_error(command, "a value is missing after", argv[optind - 1]);
        if (option == '?')
            return usage_error(command, "no such option:", argv[optind - 1]);
        enum exit_status status = take_option(command, &option_rows[option - FIRST_ROW], options);
        if (status != EXIT_DONE)
            return status;
    }
    return take_arguments(command, argc - optind, argv + optind, options);
}
