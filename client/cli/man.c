/* The manual page kvq(1), in troff. */
#include "client/cli/help.h"

#include <string.h>

/* Text that troff would take as something else is escaped. */
static void put(const char *text) {
    for (const char *c = text; *c; c++) {
        bool begins_line = c == text || c[-1] == '\n';
        if (begins_line && (*c == '.' || *c == '\''))
            fputs("\\&", stdout);
        if (*c == '-')
            fputs("\\-", stdout);
        else if (*c == '\\')
            fputs("\\e", stdout);
        else if (c[0] == '\n' && c[1] == '\n')
            fputs("\n.PP", stdout);
        else
            putchar(*c);
    }
}

static void put_line(const char *text) {
    put(text);
    putchar('\n');
}

static void put_heading(const char *heading) {
    printf(".SH %s\n", heading);
}

static void put_option(const char *name, const char *value, const char *help) {
    fputs(".TP\n\\fB", stdout);
    put("--");
    put(name);
    fputs("\\fR", stdout);
    if (value) {
        fputs(" \\fI", stdout);
        put(value);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_line(help);
}

static void put_options(uint64_t flags) {
    for (int i = 0; i < OPTION_ROWS; i++)
        if (flags & option_rows[i].flag)
            put_option(option_rows[i].name, option_rows[i].value, option_rows[i].help);
}

static void put_command(const struct command *command) {
    fputs(".SS \"kvq ", stdout);
    put(command->name);
    if (command->arguments[0]) {
        putchar(' ');
        put(command->arguments);
    }
    fputs("\"\n", stdout);
    put_line(command->help);
    put_options(command->options & ~(uint64_t)COMMON_OPTIONS);
}

static void put_example(const struct example *example) {
    put_line(example->purpose);
    fputs(".PP\n.RS 4\n.nf\n", stdout);
    put_line(example->line);
    fputs(".fi\n.RE\n", stdout);
}

static void put_environment(void) {
    put_heading("ENVIRONMENT");
    put_line(socket_text);
}

void print_manual_page(void) {
    printf(".TH KVQ 1 2026-11-24 \"kvq %s\" \"User Commands\"\n", kvq_version());
    put_heading("NAME");
    put_line("kvq - store, fetch and manage the KV caches that kvquantd keeps");
    put_heading("SYNOPSIS");
    fputs("\\fBkvq\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR]... [\\fIOPTION\\fR]...\n", stdout);
    put_heading("DESCRIPTION");
    put_line(introduction_text);
    put_heading("OPTIONS");
    put_options(COMMON_OPTIONS);
    put_option("help", NULL, "print a summary; after a command, of that command");
    put_option("version", NULL, "print the version of this program");
    put_heading("COMMANDS");
    for (int i = 0; i < command_count; i++)
        put_command(commands[i]);
    put_environment();
    put_heading("\"EXIT STATUS\"");
    put_line(exit_status_text);
    put_heading("EXAMPLES");
    for (int i = 0; i < example_count; i++) {
        if (i > 0)
            puts(".PP");
        put_example(&examples[i]);
    }
    put_heading("\"SEE ALSO\"");
    fputs("\\fBkvquantd\\fR(8), \\fBkvquantd.conf\\fR(5)\n", stdout);
}
