#include "daemon/ops/manual.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/command_line.h"
#include "daemon/base/config_option.h"

enum { LINE_COLUMNS = 100, HELP_COLUMN = 22, SECTION_PARAGRAPHS = 4 };

static const char summary[] = "Holds the KV caches of language models, compressed.";

static const char *const config_intro[] = {
    "A line is `name = value` or a comment. Sizes: bytes, or K, M, G, T (powers of 1024). Times: "
    "ms, s, min.",
    "`kvquantd --config FILE --check-config` says what is wrong, with file and line. Options of "
    "the command line override those of the file.",
    "SIGHUP has the file read again: options marked (reload) hold at once, the others from the "
    "next start. If the file is faulty, nothing changes.",
};

enum { CONFIG_INTRO = sizeof config_intro / sizeof config_intro[0] };

/* --- --help and the configuration file --- */

void manual_print_help(void) {
    printf("usage: kvquantd [options]\n%s\n\n", summary);
    for (int i = 0; i < command_option_count; i++) {
        const struct command_option *option = &command_options[i];
        if (!option->text)
            continue;
        int width = printf("  --%s%s%s", option->name, option->argument ? " " : "",
                           option->argument ? option->argument : "");
        printf("%*s%s\n", HELP_COLUMN - width, "", option->text);
    }
    puts("\nOptions of the command line override those of the file: kvquantd.conf(5).");
}

/* Comment lines, wrapped. */
static void print_comment(const char *text) {
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > LINE_COLUMNS) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "# ", (int)word, text);
        text += word + strspn(text + word, " ");
    }
    putchar('\n');
}

void manual_print_config(void) {
    puts("# kvquantd.conf - every option of the daemon, with its default.");
    for (int i = 0; i < CONFIG_INTRO; i++) {
        puts("#");
        print_comment(config_intro[i]);
    }
    for (int i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        char text[2400];
        snprintf(text, sizeof text, "%s%s", option->text, option->live ? " (reload)" : "");
        putchar('\n');
        print_comment(text);
        printf("%s%s = %s\n", option->standard ? "" : "#", option->name,
               option->standard ? option->standard : option->example);
    }
}

/* --- manual pages --- */

struct section {
    const char *title;
    const char *paragraphs[SECTION_PARAGRAPHS]; /* with a tab: a term, and what it means */
};

/* Text for troff: what stands in backticks is bold. */
static void put(const char *text) {
    bool bold = false;
    for (; *text; text++) {
        if (*text == '`') {
            bold = !bold;
            fputs(bold ? "\\fB" : "\\fR", stdout);
        } else if (*text == '\\') {
            fputs("\\e", stdout);
        } else if (*text == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
    }
}

/* A line of text must not look like a request. */
static void put_line(const char *text) {
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    put(text);
    putchar('\n');
}

static void put_title(const char *name, int section) {
    printf(".TH %s %d \"\" \"kvquantd %s\" \"KVQuant\"\n", name, section, KVQUANT_VERSION);
}

static void put_term(const char *term) {
    puts(".TP");
    put_line(term);
}

static void put_section(const struct section *section) {
    printf(".SH %s\n", section->title);
    for (int i = 0; i < SECTION_PARAGRAPHS && section->paragraphs[i]; i++) {
        const char *paragraph = section->paragraphs[i], *tab = strchr(paragraph, '\t');
        char term[100];
        if (!tab) {
            puts(".PP");
            put_line(paragraph);
            continue;
        }
        snprintf(term, sizeof term, "%.*s", (int)(tab - paragraph), paragraph);
        put_term(term);
        put_line(tab + 1);
    }
}

static void put_sections(const struct section *sections) {
    for (; sections->title; sections++)
        put_section(sections);
}

void manual_print_page(void) {
    static const struct section before[] = {
        {"NAME", {"kvquantd - store for the KV caches of language models"}},
        {"SYNOPSIS", {"`kvquantd` [options]"}},
        {"DESCRIPTION",
         {"kvquantd holds the KV caches of an inference fleet, compressed, so that a "
          "paused chat resumes without a prefill. Workers append the K and V of new "
          "tokens and fetch them again, over a unix socket or TCP on loopback. What is "
          "stored lives in memory, below a limit, and on disk where one is configured.",
          "A KV cache can be turned back into its prompt: whoever can connect can read "
          "every session."}},
        {0},
    };
    static const struct section after[] = {
        {"SIGNALS",
         {"`SIGTERM`, `SIGINT`\tTake no new requests, finish those that run within "
          "shutdown_timeout, and end.",
          "`SIGHUP`\tRead the configuration file again. One line of the log says what "
          "changed and what waits for a restart; if the file is faulty, nothing "
          "changes."}},
        {"SERVICE MANAGER",
         {"READY, RELOADING, STOPPING and STATUS are told as in sd_notify(3). STATUS "
          "follows sessions, bytes and ratio, at most every five seconds. With a "
          "watchdog (WATCHDOG_USEC) the manager is told at a half of its time that the "
          "main loop and every thread that serves connections answer.",
          "Sockets that are handed over (sd_listen_fds(3)) take the place of the "
          "configured ones: unix stream sockets and TCP on loopback that listen.",
          "What is in memory is left in the manager's keeping (FileDescriptorStoreMax= of the "
          "unit, under the name kvquantd-pool), and the daemon that it starts next takes it "
          "over: `systemctl restart` loses nothing. After a crash, with another layout of what "
          "is kept, or a memory limit of more than twice that with which it was made, it begins "
          "without, and the log and `kvq status` say why. What has crashed the daemon twice while "
          "it was being taken over is kept once more, as kvquantd-pool-set-aside, for inspection: "
          "a file among those of the manager in /proc/1/fd, which takes memory beside the limit "
          "until the service is stopped.",
          "Where standard error is the journal, log lines carry the fields KVQ_PEER, "
          "KVQ_CLIENT, KVQ_OPERATION, KVQ_SESSION and KVQ_ERROR as far as known: "
          "`journalctl KVQ_ERROR=protocol`."}},
        {"ENVIRONMENT",
         {"`KVQ_SOCKET`\tThe unix socket, where no option names it.",
          "`XDG_RUNTIME_DIR`\tOtherwise the folder of the socket, kvquantd.sock.",
          "`KVQ_CPU`\tThe best of the codec's kernels that may be used: portable, x86_64_v3, avx2 "
          "or avx512. What is stored does not depend on them.",
          "`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`, `LISTEN_FDS`, "
          "`LISTEN_FDNAMES`, `LISTEN_PID`, `JOURNAL_STREAM`\tSet by the service manager."}},
        {"EXIT STATUS",
         {"`0`\tIt was ended by a signal, or had only to print something.",
          "`1`\tIt could not start; the log says why.",
          "`2`\tThe command line or the configuration is wrong."}},
        {"FILES",
         {"/run/kvquantd/kvquantd.sock\tThe socket of the system service.",
          "kvquantd.conf\tThe configuration, in /etc/kvquant for the system service."}},
        {"SEE ALSO", {"kvquantd.conf(5), kvq(1), systemctl(1)"}},
        {0},
    };
    put_title("KVQUANTD", 8);
    put_sections(before);
    puts(".SH OPTIONS");
    for (int i = 0; i < command_option_count; i++) {
        const struct command_option *option = &command_options[i];
        char term[100];
        if (!option->text)
            continue;
        snprintf(term, sizeof term, "`--%s`%s%s", option->name, option->argument ? " " : "",
                 option->argument ? option->argument : "");
        put_term(term);
        put_line(option->text);
    }
    put_sections(after);
}

static void put_config_option(const struct config_option *option) {
    char term[100];
    snprintf(term, sizeof term, "`%s`%s%s", option->name, option->standard ? " = " : "",
             option->standard ? option->standard : "");
    put_term(term);
    put_line(option->text);
    if (option->live)
        puts("(reload)");
}

void manual_print_config_page(void) {
    static const struct section before[] = {{"NAME", {"kvquantd.conf - configuration of kvquantd"}},
                                            {0}};
    static const struct section after[] = {{"SEE ALSO", {"kvquantd(8), kvq(1)"}}, {0}};
    put_title("KVQUANTD.CONF", 5);
    put_sections(before);
    puts(".SH DESCRIPTION");
    for (int i = 0; i < CONFIG_INTRO; i++) {
        puts(".PP");
        put_line(config_intro[i]);
    }
    puts(".SH OPTIONS\n.PP\nWith the default, where there is one.");
    for (int i = 0; i < config_option_count; i++)
        put_config_option(&config_options[i]);
    put_sections(after);
}
