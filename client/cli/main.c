/* kvq: kvquantd from the shell. */
#include "client/cli/command.h"
#include "client/cli/help.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Whether it is the first of a command's two words. */
static bool begins_with_word(const char *name, const char *word) {
    const char *blank = strchr(name, ' ');
    return blank && strlen(word) == (size_t)(blank - name) &&
           strncmp(name, word, strlen(word)) == 0;
}

static bool is_first_word(const char *word) {
    for (int i = 0; i < command_count; i++)
        if (begins_with_word(commands[i]->name, word))
            return true;
    return false;
}

/* The command that the words from argv[1] on name. Afterwards argv[0] is the last of them. */
static const struct command *find_command(int *argc, char ***argv) {
    const char *first = (*argv)[1], *second = *argc > 2 ? (*argv)[2] : "";
    for (int i = 0; i < command_count; i++) {
        const char *name = commands[i]->name;
        bool two_words =
            begins_with_word(name, first) && strcmp(name + strlen(first) + 1, second) == 0;
        if (!two_words && strcmp(name, first) != 0)
            continue;
        *argc -= two_words ? 2 : 1;
        *argv += two_words ? 2 : 1;
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
    char *socket[2] = {argv[1], argv[words]}, **command = &argv[1 + words];
    int command_words = is_first_word(command[0]) && argc > 2 + words ? 2 : 1;
    memmove(&argv[1], command, (size_t)command_words * sizeof argv[0]);
    memcpy(&argv[1 + command_words], socket, (size_t)words * sizeof argv[0]);
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

/* `kvq bench`, with or without --help: what could follow. */
static enum exit_status ask_for_second_word(int argc, char **argv) {
    bool help = argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
    if (!help)
        complain("%s what? `kvq %s --help` lists it", argv[1], argv[1]);
    for (int i = 0; help && i < command_count; i++)
        if (begins_with_word(commands[i]->name, argv[1]))
            print_command_help(commands[i]);
    return help ? EXIT_DONE : EXIT_USAGE;
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
    if (is_first_word(argv[1]))
        return ask_for_second_word(argc, argv);
    complain("no command \"%s\"; `kvq --help` lists them", argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    move_socket_behind_command(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8"); /* names are UTF-8 wherever they are shown */
    signal(SIGPIPE, SIG_IGN);       /* a reader that goes away is a failed write, checked below */
    enum exit_status status = run(argc, argv);
    if (fclose(stdout) && status == EXIT_DONE) {
        if (errno != EPIPE) /* a reader such as head has seen enough */
            complain("cannot write to standard output: %s", strerror(errno));
        return EXIT_FAILED;
    }
    return (int)status;
}
