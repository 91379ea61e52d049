/* One JSON object a line on stdout: how the benches tell what they measured.
 *
 *     json_begin("latency"); json_string("operation", "ping"); json_number("p50_us", 9.1);
 * json_end();
 *
 * Keys and strings are the benches' own and need no escapes but those of json_string().
 */
#ifndef TESTS_BENCH_JSON_LINE_H
#define TESTS_BENCH_JSON_LINE_H

#include <stddef.h>

/* The object's first member says what kind of line this is. */
void json_begin(const char *kind);
void json_string(const char *key, const char *value);
/* null if it is not finite. */
void json_number(const char *key, double value);
void json_numbers(const char *key, const double *values, size_t count);
void json_end(void);

#endif
