/* kvq: kvquantd from the shell. */
#include "client/cli/command.h"
#include "client/cli/help.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Whether the words from argv[1] on begin with a command's one or two; words is how many. */
static bool is_command(const char *name, int argc, char **argv, int *words) {
    const char *blank = strchr(name, ' ');
    *words = blank ? 2 : 1;
    if (!blank)
        return strcmp(name, argv[1]) == 0;
    size_t first = (size_t)(blank - name);
    return strlen(argv[1]) == first && strncmp(name, argv[1], first) == 0 && argc > 2 &&
           strcmp(blank + 1, argv[2]) == 0;
}

/* Afterwards argv[0] is the command's last word. */
static const struct command *find_command(int *argc, char ***argv) {
    int words;
    for (int i = 0; i < command_count; i++) {
        if (!is_command(commands[i]->name, *argc, *argv, &words))
            continue;
        *argc -= words;
        *argv += words;
        return commands[i];
    }
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

/* What is asked without a command. The last two are for building, and for packages. */
static bool print_page(const char *option) {
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0 || strcmp(option, "help") == 0)
        print_help(stdout);
    else if (strcmp(option, "--version") == 0)
        printf("kvq %s\n", kvq_version());
    else if (strcmp(option, "--man") == 0)
        print_manual_page();
    else if (strcmp(option, "--completion") == 0)
        print_completion();
    else
        return false;
    return true;
}

static enum exit_status run(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (print_page(argv[1]))
        return EXIT_DONE;
    const struct command *command = find_command(&argc, &argv);
    if (command)
        return run_command(command, argc, argv);
    complain("no command \"%s\"; `kvq --help` lists them", argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    move_socket_behind_command(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8"); /* names are UTF-8 wherever they are shown */
    signal(SIGPIPE, SIG_IGN);       /* a reader that goes away is a failed write, checked below */
    enum exit_status status = run(argc, argv);
    if (fclose(stdout) && status == EXIT_DONE) {
        complain("cannot write to standard output");
        return EXIT_FAILED;
    }
    return (int)status;
}
