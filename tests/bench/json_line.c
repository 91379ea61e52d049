#include "tests/bench/json_line.h"

#include <math.h>
#include <stdio.h>

static void print_string(const char *value) {
    putchar('"');
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            putchar('\\');
        putchar(*value < ' ' && *value >= 0 ? ' ' : *value);
    }
    putchar('"');
}

static void print_number(double value) {
    if (isfinite(value))
        printf("%.9g", value);
    else
        fputs("null", stdout);
}

void json_begin(const char *kind) {
    fputs("{\"kind\": ", stdout);
    print_string(kind);
}

void json_string(const char *key, const char *value) {
    printf(", \"%s\": ", key);
    print_string(value);
}

void json_number(const char *key, double value) {
    printf(", \"%s\": ", key);
    print_number(value);
}

void json_numbers(const char *key, const double *values, size_t count) {
    printf(", \"%s\": [", key);
    for (size_t i = 0; i < count; i++) {
        fputs(i ? ", " : "", stdout);
        print_number(values[i]);
    }
    putchar(']');
}

void json_end(void) {
    puts("}");
    fflush(stdout);
}
