#include "daemon/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/address.h"

/* Levels are kept from 0 up; the page's own numbers begin at -2. */
static const char *const levels[] = {"exact", "fast8", "0", "1", "2", "3", "4", "5", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

enum kind { PATH, ADDRESS, COUNT, SIZE, OCTAL, MILLISECONDS, CHOICE };

struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    uint64_t least, most;
    const char *standard;
    const char *const *choices;
};

#define AT(field) offsetof(struct config, field)

static const struct option options[] = {
    {"socket", PATH, AT(socket), 1, 4095, NULL, NULL},
    {"tcp", ADDRESS, AT(tcp), 0, 0, NULL, NULL},
    {"socket_mode", OCTAL, AT(socket_mode), 0, 0777, "0660", NULL},
    {"memory", SIZE, AT(memory_bytes), 32 << 20, UINT64_C(1) << 45, "1G", NULL},
    {"reactors", COUNT, AT(reactors), 1, 64, "2", NULL},
    {"connections", COUNT, AT(connections), 1, 1 << 20, "1024", NULL},
    {"level", CHOICE, AT(level), 0, 0, "3", levels},
    {"landing_level", CHOICE, AT(landing_level), 0, 0, "fast8", levels},
    {"append_wait", MILLISECONDS, AT(append_wait_ms), 1, 3600000, "2s", NULL},
    {"stall_timeout", MILLISECONDS, AT(stall_ms), 1, 3600000, "30s", NULL},
    {"shutdown_timeout", MILLISECONDS, AT(shutdown_ms), 1, 3600000, "10s", NULL},
    {"log_level", CHOICE, AT(log_level), 0, 0, "info", log_levels},
};

enum { OPTIONS = sizeof options / sizeof options[0] };

static const struct option *find_option(const char *name) {
    for (int i = 0; i < OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

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

static bool apply_unit(const char *name, const struct unit *units, uint64_t *value) {
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return !__builtin_mul_overflow(*value, units->factor, value);
    return false;
}

static bool read_choice(const char *const *choices, const char *text, uint64_t *value) {
    for (*value = 0; choices[*value]; ++*value)
        if (strcmp(choices[*value], text) == 0)
            return true;
    return false;
}

static bool read_value(const struct option *option, const char *text, uint64_t *value) {
    static const struct unit sizes[] = {{"", 1},        {"K", 1 << 10},           {"M", 1 << 20},
                                        {"G", 1 << 30}, {"T", UINT64_C(1) << 40}, {NULL, 0}};
    static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {NULL, 0}};
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    const char *rest;
    if (option->kind == CHOICE)
        return read_choice(option->choices, text, value);
    const struct unit *units = option->kind == SIZE           ? sizes
                               : option->kind == MILLISECONDS ? times
                                                              : none;
    return read_number(text, option->kind == OCTAL ? 8 : 10, value, &rest) &&
           apply_unit(rest, units, value) && *value >= option->least && *value <= option->most;
}

static void say_allowed(const struct option *option, char *text, int bytes) {
    unsigned long long least = option->least, most = option->most;
    switch (option->kind) {
    case PATH:
        snprintf(text, (size_t)bytes, "a path with a '/' in it; for HOST:PORT there is `tcp`");
        break;
    case ADDRESS:
        snprintf(text, (size_t)bytes,
                 "HOST:PORT on loopback, such as 127.0.0.1:7420, [::1]:7420 or localhost:7420; "
                 "addresses beyond loopback need TLS, which this version has not");
        break;
    case COUNT:
        snprintf(text, (size_t)bytes, "a number from %llu to %llu", least, most);
        break;
    case OCTAL:
        snprintf(text, (size_t)bytes, "an octal mode from 0 to %llo", most);
        break;
    case SIZE:
        snprintf(text, (size_t)bytes, "a size such as 512M, 8G or bytes, at least %lluM",
                 least >> 20);
        break;
    case MILLISECONDS:
        snprintf(text, (size_t)bytes, "a time such as 500ms, 2s or 1min, at most %llu s",
                 most / 1000);
        break;
    case CHOICE:
        text[0] = 0;
        for (int i = 0, at = 0; option->choices[i] && at < bytes; i++)
            at += snprintf(text + at, (size_t)(bytes - at), "%s%s", i ? ", " : "one of ",
                           option->choices[i]);
        break;
    }
}

static int set_text(struct config *config, const struct option *option, const char *value) {
    char **target = (char **)((char *)config + option->offset), *copy = strdup(value);
    if (!copy)
        return -1;
    free(*target);
    *target = copy;
    return 0;
}

static bool is_path(const struct option *option, const char *value) {
    return strchr(value, '/') && strlen(value) <= option->most;
}

static int set(struct config *config, const struct option *option, const char *value) {
    union address address;
    if (option->kind == PATH)
        return is_path(option, value) ? set_text(config, option, value) : -1;
    if (option->kind == ADDRESS)
        return address_parse(value, &address) ? set_text(config, option, value) : -1;
    return read_value(option, value, (uint64_t *)(void *)((char *)config + option->offset)) ? 0
                                                                                            : -1;
}

int config_set(struct config *config, const char *name, const char *value, char *message,
               int message_bytes) {
    char allowed[200];
    const struct option *option = find_option(name);
    if (!option) {
        int at = snprintf(message, (size_t)message_bytes, "there is no option %s; there are", name);
        for (int i = 0; i < OPTIONS && at < message_bytes; i++)
            at += snprintf(message + at, (size_t)(message_bytes - at), "%s %s", i ? "," : "",
                           options[i].name);
        return -1;
    }
    if (set(config, option, value) == 0)
        return 0;
    say_allowed(option, allowed, sizeof allowed);
    snprintf(message, (size_t)message_bytes, "%s = %s: it must be %s", name, value, allowed);
    return -1;
}

int config_init(struct config *config) {
    char message[400];
    *config = (struct config){0};
    for (int i = 0; i < OPTIONS; i++)
        if (options[i].standard &&
            config_set(config, options[i].name, options[i].standard, message, sizeof message) < 0)
            return -1;
    return 0;
}

void config_deinit(struct config *config) {
    free(config->socket);
    free(config->tcp);
}

struct reading {
    struct config *config;
    char fault[600];
};

/* inih calls this for each line "name = value"; 0 makes it note the line as faulty. */
static int on_line(void *context, const char *section, const char *name, const char *value) {
    struct reading *reading = context;
    if (reading->fault[0])
        return 1; /* the first fault is the one that is told */
    if (section[0]) {
        snprintf(reading->fault, sizeof reading->fault, "sections such as [%s] are not used",
                 section);
        return 0;
    }
    return config_set(reading->config, name, value, reading->fault, sizeof reading->fault) == 0;
}

int config_read(struct config *config, const char *path, char *message, int message_bytes) {
    struct reading reading = {.config = config};
    struct stat entry;
    bool is_folder = stat(path, &entry) == 0 && S_ISDIR(entry.st_mode);
    errno = EISDIR;
    int line = is_folder ? -1 : ini_parse(path, on_line, &reading);
    if (line == 0)
        return 0;
    if (line < 0)
        snprintf(message, (size_t)message_bytes, "%s: cannot be read: %s", path,
                 line == -1 ? strerror(errno) : "no memory");
    else
        snprintf(message, (size_t)message_bytes, "%s:%d: %s", path, line,
                 reading.fault[0] ? reading.fault : "a line is `name = value` or a comment");
    return -1;
}

int config_finish(struct config *config, char *message, int message_bytes) {
    const char *named = getenv("KVQ_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX] = "/run/kvquantd/kvquantd.sock";
    if (config->socket)
        return 0;
    if (named && named[0])
        snprintf(path, sizeof path, "%s", named);
    else if (runtime && runtime[0])
        snprintf(path, sizeof path, "%s/kvquantd.sock", runtime);
    return config_set(config, "socket", path, message, message_bytes);
}
