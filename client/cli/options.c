/* One table of all options; a command's row says which of them it takes. */
#include "client/cli/command.h"
#include "client/cli/words.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option_row {
    enum option_flag flag;
    const char *name, *value; /* value NULL: takes none */
    const char *help;
    bool (*parse)(const char *text, struct options *options); /* NULL: nothing to keep */
};

static bool parse_socket(const char *text, struct options *options) {
    options->socket = text;
    return text[0] != '\0';
}

static bool parse_model(const char *text, struct options *options) {
    options->model = text;
    return text[0] != '\0' && strlen(text) <= KVQ_MODEL_BYTES_MAX;
}

static bool parse_level(const char *text, struct options *options) {
    return level_from_name(text, &options->level);
}

static bool parse_dtype(const char *text, struct options *options) {
    return dtype_from_name(text, &options->dtype);
}

static bool parse_number(const char *text, const char **end, uint64_t *number) {
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *stop;
    errno = 0;
    *number = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

/* A:B, A:, :B or :, with A < B. */
static bool parse_range(const char *text, struct range *range) {
    *range = (struct range){0};
    if (text[0] != ':' && !parse_number(text, &text, &range->first))
        return false;
    if (*text++ != ':')
        return false;
    if (text[0] == '\0')
        return true;
    return parse_number(text, &text, &range->end) && text[0] == '\0' && range->first < range->end;
}

static bool parse_tokens(const char *text, struct options *options) {
    return parse_range(text, &options->tokens);
}

static bool parse_layers(const char *text, struct options *options) {
    return parse_range(text, &options->layers) && options->layers.end <= UINT32_MAX &&
           options->layers.first < UINT32_MAX;
}

static bool parse_real(const char *text, double *number) {
    char *end;
    *number = strtod(text, &end);
    return end != text && *end == '\0' && *number > 0 && *number < 1e30;
}

static bool parse_rope_field(const char *name, const char *value, struct kvq_rope *rope) {
    const char *end = value;
    uint64_t dims;
    if (strcmp(name, "theta") == 0)
        return parse_real(value, &rope->theta);
    if (strcmp(name, "scaling") == 0)
        return parse_real(value, &rope->scaling);
    if (strcmp(name, "pairing") == 0)
        return pairing_from_name(value, &rope->pairing);
    if (strcmp(name, "dims") != 0 || !parse_number(value, &end, &dims) || *end != '\0')
        return false;
    rope->dims = (uint32_t)dims;
    return dims > 0 && dims <= UINT16_MAX;
}

/* theta=100000,pairing=interleaved,dims=64[,scaling=1] */
static bool parse_rope(const char *text, struct options *options) {
    char copy[256];
    int length = snprintf(copy, sizeof copy, "%s", text);
    if (length < 0 || (size_t)length >= sizeof copy)
        return false;
    char *rest = copy;
    for (char *field; (field = strsep(&rest, ","));) {
        char *value = strchr(field, '=');
        if (!value)
            return false;
        *value++ = '\0';
        if (!parse_rope_field(field, value, &options->rope))
            return false;
    }
    const struct kvq_rope *rope = &options->rope;
    return rope->pairing != KVQ_PAIRING_NONE && rope->theta > 0 && rope->dims > 0;
}

static const struct option_row rows[] = {
    {OPTION_SOCKET, "socket", "PATH", "the daemon's socket", parse_socket},
    {OPTION_JSON, "json", NULL, "print one JSON value instead of a table", NULL},
    {OPTION_MODEL, "model", "NAME",
     "the model's fingerprint, 1 to 255 bytes: weights, tokenizer, adapter", parse_model},
    {OPTION_LEVEL, "level", "LEVEL", "exact, fast8 or 0 (fine) to 5 (coarse); 3 if not given",
     parse_level},
    {OPTION_ROPE, "rope", "theta=N,pairing=interleaved|half,dims=N[,scaling=N]",
     "the model's rotary embedding", parse_rope},
    {OPTION_DTYPE, "dtype", "bf16|f16|f32", "of the file's values; bf16 stands in uint16",
     parse_dtype},
    {OPTION_APPEND, "append", NULL, "add the tokens to a session that may exist", NULL},
    {OPTION_REPLACE, "replace", NULL, "delete a session that exists, then import", NULL},
    {OPTION_TOKENS, "tokens", "A:B", "tokens A to B, B not among them; either may be left out",
     parse_tokens},
    {OPTION_LAYERS, "layers", "A:B", "layers A to B, likewise", parse_layers},
};
enum { ROW_COUNT = sizeof rows / sizeof rows[0], HELP = 'h' };

static void print_usage(const struct command *command, FILE *out) {
    fprintf(out, "usage: kvq %s%s%s [OPTION]...\n", command->name, command->arguments[0] ? " " : "",
            command->arguments);
}

static void print_command_help(const struct command *command) {
    print_usage(command, stdout);
    printf("%s\n", command->help);
    for (int i = 0; i < ROW_COUNT; i++)
        if (command->options & rows[i].flag)
            printf("  --%s%s%s\n      %s\n", rows[i].name, rows[i].value ? " " : "",
                   rows[i].value ? rows[i].value : "", rows[i].help);
}

static enum exit_status usage_error(const struct command *command, const char *what,
                                    const char *which) {
    complain("%s: %s%s%s; see `kvq %s --help`", command->name, what, which[0] ? " " : "", which,
             command->name);
    return EXIT_USAGE;
}

/* Those of the rows that the command takes; val is a row's number from 256 on. */
static void list_options(const struct command *command, struct option *list) {
    for (int i = 0; i < ROW_COUNT; i++)
        if (command->options & rows[i].flag)
            *list++ = (struct option){rows[i].name, rows[i].value ? required_argument : no_argument,
                                      NULL, 256 + i};
    *list++ = (struct option){"help", no_argument, NULL, HELP};
    *list = (struct option){0};
}

static enum exit_status take_option(const struct command *command, const struct option_row *row,
                                    struct options *options) {
    char expected[128];
    options->given |= row->flag;
    if (!row->parse || row->parse(optarg, options))
        return EXIT_DONE;
    snprintf(expected, sizeof expected, "\"%.40s\" is not %s", optarg, row->value);
    char name[32];
    snprintf(name, sizeof name, "--%s:", row->name);
    return usage_error(command, name, expected);
}

enum exit_status parse_options(const struct command *command, int argc, char **argv,
                               struct options *options, bool *answered) {
    struct option list[ROW_COUNT + 2];
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
        enum exit_status status = take_option(command, &rows[option - 256], options);
        if (status != EXIT_DONE)
            return status;
    }
    int missing = command->argument_count - (argc - optind);
    if (missing > 0)
        return usage_error(command, "arguments are missing; it takes", command->arguments);
    if (missing < 0)
        return usage_error(command, "too many arguments, from",
                           argv[optind + command->argument_count]);
    options->arguments = argv + optind;
    return EXIT_DONE;
}
