/* Names of levels, dtypes and pairings, and figures as people read them. */
#ifndef CLIENT_CLI_WORDS_H
#define CLIENT_CLI_WORDS_H

#include "client/c/kvq.h"

bool level_from_name(const char *name, int *level);
bool dtype_from_name(const char *name, enum kvq_dtype *dtype);
bool pairing_from_name(const char *name, enum kvq_pairing *pairing);

/* Static; "?" for a number that is none. */
const char *level_name(int level);
const char *dtype_name(enum kvq_dtype dtype);
const char *pairing_name(enum kvq_pairing pairing);
const char *state_name(enum kvq_state state);
const char *role_name(enum kvq_role role);
const char *takeover_name(enum kvq_takeover outcome);

/* Digits only; *end is what follows them. */
bool number_prefix(const char *text, const char **end, uint64_t *number);
bool number_from_text(const char *text, uint64_t *number);

/* Bytes, or 512K, 64M, 8G, 1T. */
bool bytes_from_text(const char *text, uint64_t *bytes);

/* 1 to 64 letters, digits, '.', '_' and '-'. */
bool is_tenant_name(const char *text);

/* 500ms, 2s, 10min, 3h, 2d. */
bool milliseconds_from_text(const char *text, uint64_t *milliseconds);

enum { WORD_BYTES = 32 };

/* These write to text, of WORD_BYTES, and return it. */
const char *bytes_text(uint64_t bytes, char *text);             /* "3.3 MiB" */
const char *count_text(uint64_t count, char *text);             /* "12,345" */
const char *short_count_text(uint64_t count, char *text);       /* "1234 k" */
const char *seconds_text(double seconds, char *text);           /* "3 d 4 h" */
const char *short_time_text(uint64_t milliseconds, char *text); /* "3h", as options take it */
const char *microseconds_text(double microseconds, char *text); /* "3.4 ms"; "-" for NaN */
const char *figure_text(double figure, int decimals, const char *unit,
                        char *text); /* "-" for NaN */

/* The columns that a name takes in a terminal. */
int name_columns(const char *name);

#endif
