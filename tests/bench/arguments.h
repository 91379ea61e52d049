/* The command line that the benches have in common: name and value in turn, `--rounds 5`. */
#ifndef TESTS_BENCH_ARGUMENTS_H
#define TESTS_BENCH_ARGUMENTS_H

#include <stddef.h>

struct argument {
    const char *name;     /* "--rounds" */
    const char *fallback; /* taken if it is not given */
    const char *value;    /* set by arguments_parse */
};

/* argv[1] is the daemon's program, which is returned; then come names and values. Prints usage and
 * ends with status 2 if not, or for --help. */
const char *arguments_parse(int argc, char **argv, struct argument *arguments, size_t count);

/* The same for a program that has no daemon: names and values alone. */
void arguments_parse_alone(char **argv, struct argument *arguments, size_t count);

/* A whole number from 1 to max; ends as above if value is none. */
unsigned argument_number(const struct argument *argument, unsigned max);

/* Cuts a list at its commas, in place; returns how many words there are, at most max. */
size_t argument_words(char *list, const char **words, size_t max);

#endif
