#include "tests/bench/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2 };

static _Noreturn void usage(const char *program, const struct argument *arguments, size_t count) {
    fprintf(stderr, "usage: %s KVQUANTD", program);
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

const char *arguments_parse(int argc, char **argv, struct argument *arguments, size_t count) {
    if (argc < 2 || argc % 2 || argv[1][0] == '-')
        usage(argv[0], arguments, count);
    for (size_t i = 0; i < count; i++)
        arguments[i].value = arguments[i].fallback;
    for (int i = 2; i < argc; i += 2) {
        struct argument *argument = find(arguments, count, argv[i]);
        if (!argument)
            usage(argv[0], arguments, count);
        argument->value = argv[i + 1];
    }
    return argv[1];
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
