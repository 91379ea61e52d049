/* Between the values of struct config and their text. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/address.h"
#include "daemon/base/config_option.h"

/* The number that text begins with; *rest is what follows. False if there is none. */
static bool read_number(const char *text, int base, uint64_t *value, const char **rest) {
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *value = strtoull(text, &end, base);
    *rest = end;
    return errno == 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit sizes[] = {{"", 1},        {"K", 1 << 10},           {"M", 1 << 20},
                                    {"G", 1 << 30}, {"T", UINT64_C(1) << 40}, {NULL, 0}};
static const struct unit times[] = {{"ms", 1},      {"s", 1000},     {"min", 60000},
                                    {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
static const struct unit none[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct config_option *option) {
    return option->kind == CONFIG_SIZE ? sizes : option->kind == CONFIG_MILLISECONDS ? times : none;
}

static bool apply_unit(const char *name, const struct unit *units, uint64_t *value) {
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return !__builtin_mul_overflow(*value, units->factor, value);
    return false;
}

static bool read_in_units(const char *text, const struct unit *units, uint64_t *value) {
    const char *rest;
    return read_number(text, 10, value, &rest) && apply_unit(rest, units, value);
}

bool config_read_size(const char *text, uint64_t *bytes) {
    return read_in_units(text, sizes, bytes);
}

bool config_read_count(const char *text, uint64_t *count) {
    return read_in_units(text, none, count);
}

static bool read_choice(const char *const *choices, const char *text, uint64_t *value) {
    for (*value = 0; choices[*value]; ++*value)
        if (strcmp(choices[*value], text) == 0)
            return true;
    return false;
}

static const char never[] = "never";

/* A time of 0, where that is allowed. */
static bool may_be_never(const struct config_option *option) {
    return option->kind == CONFIG_MILLISECONDS && option->least == 0;
}

static bool read_value(const struct config_option *option, const char *text, uint64_t *value) {
    const char *rest;
    if (option->kind == CONFIG_CHOICE)
        return read_choice(option->choices, text, value);
    if (may_be_never(option) && strcmp(text, never) == 0) {
        *value = 0;
        return true;
    }
    return read_number(text, option->kind == CONFIG_OCTAL ? 8 : 10, value, &rest) &&
           apply_unit(rest, units_of(option), value) && *value >= option->least &&
           *value <= option->most;
}

void config_option_write_allowed(const struct config_option *option, char *text, size_t bytes) {
    unsigned long long least = option->least, most = option->most;
    switch (option->kind) {
    case CONFIG_PATH:
        snprintf(text, bytes, "a path with a '/' in it; for HOST:PORT there is `tcp`");
        break;
    case CONFIG_FILE:
        snprintf(text, bytes, "a path");
        break;
    case CONFIG_ADDRESS:
        snprintf(text, bytes,
                 "HOST:PORT with a numeric HOST, such as 127.0.0.1:7420, [::1]:7420 or "
                 "localhost:7420");
        break;
    case CONFIG_SOCKET:
        snprintf(text, bytes,
                 "a path with a '/' in it, or HOST:PORT on loopback, such as 127.0.0.1:9420; it is "
                 "not for other machines");
        break;
    case CONFIG_COUNT:
        snprintf(text, bytes, "a number from %llu to %llu", least, most);
        break;
    case CONFIG_OCTAL:
        snprintf(text, bytes, "an octal mode from 0 to %llo", most);
        break;
    case CONFIG_SIZE:
        snprintf(text, bytes, "a size such as 512M, 8G or bytes, at least %lluM", least >> 20);
        break;
    case CONFIG_MILLISECONDS:
        snprintf(text, bytes, "%sa time such as 500ms, 2s or 1min, at most %llu s",
                 may_be_never(option) ? "never or " : "", most / 1000);
        break;
    case CONFIG_CHOICE:
        text[0] = 0;
        for (size_t i = 0, at = 0; option->choices[i] && at < bytes; i++)
            at += (size_t)snprintf(text + at, bytes - at, "%s%s", i ? ", " : "one of ",
                                   option->choices[i]);
        break;
    }
}

static int set_text(const struct config_option *option, struct config *config, const char *value) {
    char **target = (char **)((char *)config + option->offset), *copy = strdup(value);
    if (!copy)
        return -1;
    free(*target);
    *target = copy;
    return 0;
}

static bool is_path(const struct config_option *option, const char *value) {
    return strchr(value, '/') && strlen(value) <= option->most;
}

int config_option_read(const struct config_option *option, struct config *config,
                       const char *text) {
    union address address;
    if (option->kind == CONFIG_PATH)
        return is_path(option, text) ? set_text(option, config, text) : -1;
    if (option->kind == CONFIG_FILE)
        return text[0] && strlen(text) <= option->most ? set_text(option, config, text) : -1;
    if (option->kind == CONFIG_ADDRESS)
        return address_parse(text, &address) ? set_text(option, config, text) : -1;
    if (option->kind == CONFIG_SOCKET)
        return is_path(option, text) || address_parse_loopback(text, &address)
                   ? set_text(option, config, text)
                   : -1;
    return read_value(option, text, (uint64_t *)(void *)((char *)config + option->offset)) ? 0 : -1;
}

/* In the largest unit that divides it. */
static void write_in_units(uint64_t value, const struct unit *units, char *text, size_t bytes) {
    const struct unit *best = units;
    for (; units->name; units++)
        if (value % units->factor == 0 && value >= units->factor)
            best = units;
    snprintf(text, bytes, "%llu%s", (unsigned long long)(value / best->factor), best->name);
}

void config_option_write(const struct config_option *option, const struct config *config,
                         char text[CONFIG_VALUE_BYTES]) {
    const char *field = (const char *)config + option->offset;
    if (config_option_is_text(option)) {
        const char *value = *(const char *const *)(const void *)field;
        snprintf(text, CONFIG_VALUE_BYTES, "%s", value ? value : "none");
        return;
    }
    uint64_t value = *(const uint64_t *)(const void *)field;
    if (option->kind == CONFIG_CHOICE)
        snprintf(text, CONFIG_VALUE_BYTES, "%s", option->choices[value]);
    else if (value == 0 && may_be_never(option))
        snprintf(text, CONFIG_VALUE_BYTES, "%s", never);
    else if (option->kind == CONFIG_OCTAL)
        snprintf(text, CONFIG_VALUE_BYTES, "%04llo", (unsigned long long)value);
    else
        write_in_units(value, units_of(option), text, CONFIG_VALUE_BYTES);
}
