#include "tests/bench/arguments.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2 };

static _Noreturn void usage(const char *program, const char *first,
                            const struct argument *arguments, size_t count) {
    fprintf(stderr, "usage: %s%s", program, first);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, " [%s %s]", arguments[i].name, arguments[i].fallback);
    fputc('\n', stderr);
    exit(USAGE);
}

static struct argument *find(struct argument *arguments, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(arguments[i].name, name))
            return &arguments[i];
    return NULL;
}

/* False if it is not names and values in turn. */
static bool parse(char **words, struct argument *arguments, size_t count) {
    for (size_t i = 0; i < count; i++)
        arguments[i].value = arguments[i].fallback;
    for (; words[0]; words += 2) {
        struct argument *argument = find(arguments, count, words[0]);
        if (!argument || !words[1])
            return false;
        argument->value = words[1];
    }
    return true;
}

const char *arguments_parse(int argc, char **argv, struct argument *arguments, size_t count) {
    if (argc < 2 || argv[1][0] == '-' || !parse(argv + 2, arguments, count))
        usage(argv[0], " KVQUANTD", arguments, count);
    return argv[1];
}

void arguments_parse_alone(char **argv, struct argument *arguments, size_t count) {
    if (!parse(argv + 1, arguments, count))
        usage(argv[0], "", arguments, count);
}

unsigned argument_number(const struct argument *argument, unsigned max) {
    char *end;
    unsigned long number = strtoul(argument->value, &end, 10);
    if (number >= 1 && number <= max && !*end)
        return (unsigned)number;
    fprintf(stderr, "%s is a number from 1 to %u\n", argument->name, max);
    exit(USAGE);
}

size_t argument_words(char *list, const char **words, size_t max) {
    size_t count = 0;
    for (char *word = strtok(list, ","); word && count < max; word = strtok(NULL, ","))
        words[count++] = word;
    return count;
}
