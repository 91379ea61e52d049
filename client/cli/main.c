/* kvq: kvquantd from the shell. */
#include "client/cli/command.h"
#include "client/cli/help.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct command *find_command(const char *name) {
    for (int i = 0; i < command_count; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static enum exit_status run_command(const struct command *command, int argc, char **argv) {
    struct options options;
    bool answered = false;
    enum exit_status status = parse_options(command, argc, argv, &options, &answered);
    return status != EXIT_DONE || answered ? status : command->run(&options);
}

/* `kvq --socket PATH COMMAND` means `kvq COMMAND --socket PATH`. */
static void move_socket_behind_command(int argc, char **argv) {
    int words = argc > 1 && strcmp(argv[1], "--socket") == 0                          ? 2
                : argc > 1 && strncmp(argv[1], "--socket=", strlen("--socket=")) == 0 ? 1
                                                                                      : 0;
    if (words == 0 || argc <= 1 + words)
        return;
    char *command = argv[1 + words];
    memmove(&argv[2], &argv[1], (size_t)words * sizeof argv[0]);
    argv[1] = command;
}

int main(int argc, char **argv) {
    enum exit_status status = EXIT_DONE;
    move_socket_behind_command(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8"); /* names are UTF-8 wherever they are shown */
    signal(SIGPIPE, SIG_IGN);       /* a reader that goes away is a failed write, checked below */
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
    if (command) {
        status = run_command(command, argc - 1, argv + 1);
    } else if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                            strcmp(argv[1], "help") == 0)) {
        print_help(stdout);
    } else if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("kvq %s\n", kvq_version());
    } else if (argc > 1) {
        complain("no command \"%s\"; `kvq --help` lists them", argv[1]);
        return EXIT_USAGE;
    } else {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (fclose(stdout) && status == EXIT_DONE) {
        complain("cannot write to standard output");
        return EXIT_FAILED;
    }
    return (int)status;
}
