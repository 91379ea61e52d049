#include "client/cli/help.h"

#include <string.h>

enum { COLUMNS = 80 };

const char introduction_text[] =
    "Talks to kvquantd, which keeps the KV caches of language models, compressed.";

const char socket_text[] =
    "The daemon's socket is --socket PATH, else $KVQ_SOCKET, else $XDG_RUNTIME_DIR/kvquantd.sock "
    "if it is there, else /run/kvquantd/kvquantd.sock. Whose client kvq is the daemon knows by the "
    "user, or by the token in --token-file FILE, else in the file that $KVQ_TOKEN_FILE names. TLS "
    "is "
    "spoken to a host:port if --tls-ca FILE or $KVQ_TLS_CA names the CA of the daemon's "
    "certificate; "
    "the daemon then knows kvq by --tls-certificate and --tls-key, else by the files that "
    "$KVQ_TLS_CERTIFICATE and $KVQ_TLS_KEY name. $KVQ_TLS_NAME stands for --tls-name.";

const char exit_status_text[] = "0 done, 1 refused or failed, 2 usage, 3 no such session, range or "
                                "attachment.";

void print_wrapped(FILE *out, int indent, const char *text) {
    int column = 0;
    for (const char *word = text; *word;) {
        int length = (int)strcspn(word, " \n");
        if (column > 0 && column + 1 + length > COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (length > 0) {
            column += column ? fprintf(out, " %.*s", length, word)
                             : fprintf(out, "%*s%.*s", indent, "", length, word);
        }
        word += length;
        if (*word == '\n') {
            fputc('\n', out);
            column = 0;
        }
        word += *word != '\0';
    }
    fputc('\n', out);
}

void print_help(FILE *out) {
    fputs("usage: kvq COMMAND [ARGUMENT]... [OPTION]...\n", out);
    print_wrapped(out, 0, introduction_text);
    fputc('\n', out);
    for (int i = 0; i < command_count; i++)
        fprintf(out, "  %-15s %-14s %s\n", commands[i]->name, commands[i]->arguments,
                commands[i]->summary);
    fputs("\n  --help     this page; `kvq COMMAND --help` for one command\n"
          "  --version  the version of this program\n\n",
          out);
    print_wrapped(out, 0, socket_text);
    fputs("Exit status:\n", out);
    print_wrapped(out, 0, exit_status_text);
}

/* Those that begin with the command. */
static void print_examples(const struct command *command) {
    char start[32];
    int length = snprintf(start, sizeof start, "kvq %s ", command->name);
    bool first = true;
    for (int i = 0; i < example_count; i++) {
        if (strncmp(examples[i].line, start, (size_t)length) != 0)
            continue;
        printf("%s    %s\n", first ? "\nFor example:\n" : "", examples[i].line);
        first = false;
    }
}

void print_command_help(const struct command *command) {
    printf("usage: kvq %s%s%s [OPTION]...\n", command->name, command->arguments[0] ? " " : "",
           command->arguments);
    print_wrapped(stdout, 0, command->help);
    fputc('\n', stdout);
    for (int i = 0; i < OPTION_ROWS; i++) {
        const struct option_row *row = &option_rows[i];
        if (!(command->options & row->flag))
            continue;
        printf("  --%s%s%s\n", row->name, row->value ? " " : "", row->value ? row->value : "");
        print_wrapped(stdout, 6, row->help);
    }
    print_examples(command);
}
