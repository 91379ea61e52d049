/* What each option of the configuration is: a row of one table, which the reader of the file, the
 * shipped file, the manual pages and a reload go by.
 */
#ifndef DAEMON_BASE_CONFIG_OPTION_H
#define DAEMON_BASE_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/config.h"

enum config_kind {
    CONFIG_PATH,
    CONFIG_FILE, /* or a folder */
    CONFIG_ADDRESS,
    CONFIG_SOCKET, /* a path or an address */
    CONFIG_COUNT,
    CONFIG_SIZE,
    CONFIG_OCTAL,
    CONFIG_MILLISECONDS,
    CONFIG_CHOICE
};

struct config_option {
    const char *name;
    size_t offset; /* in struct config: a char * for paths, files and addresses, else a uint64_t */
    uint64_t least, most;
    const char *standard; /* NULL: none */
    const char *example;  /* where there is no default */
    const char *const *choices;
    const char *text; /* one or more sentences, `code` in backticks */
    enum config_kind kind;
    bool live; /* a reload changes it in the running daemon */
};

extern const struct config_option config_options[];
extern const int config_option_count;

enum { CONFIG_VALUE_BYTES = 4096 };

/* Whether the field is a char *. */
static inline bool config_option_is_text(const struct config_option *option) {
    return option->kind == CONFIG_PATH || option->kind == CONFIG_FILE ||
           option->kind == CONFIG_ADDRESS || option->kind == CONFIG_SOCKET;
}

const struct config_option *config_option_find(const char *name);

/* 0, or -1 if the text is no such value. */
int config_option_read(const struct config_option *option, struct config *config, const char *text)
    __attribute__((warn_unused_result));

/* The value as the file writes it. */
void config_option_write(const struct config_option *option, const struct config *config,
                         char text[CONFIG_VALUE_BYTES]);

/* A size such as 512M, or a number, out of other files. */
bool config_read_size(const char *text, uint64_t *bytes);
bool config_read_count(const char *text, uint64_t *count);

/* "a number from 1 to 64" and the like. */
void config_option_write_allowed(const struct config_option *option, char *text, size_t bytes);

#endif
