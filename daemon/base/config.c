#include "daemon/base/config.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/address.h"
#include "daemon/base/config_option.h"

int config_set(struct config *config, const char *name, const char *value, char *message,
               int message_bytes) {
    char allowed[200];
    const struct config_option *option = config_option_find(name);
    if (!option) {
        int at = snprintf(message, (size_t)message_bytes, "there is no option %s; there are", name);
        for (int i = 0; i < config_option_count && at < message_bytes; i++)
            at += snprintf(message + at, (size_t)(message_bytes - at), "%s %s", i ? "," : "",
                           config_options[i].name);
        return -1;
    }
    if (config_option_read(option, config, value) == 0)
        return 0;
    config_option_write_allowed(option, allowed, sizeof allowed);
    snprintf(message, (size_t)message_bytes, "%s = %s: it must be %s", name, value, allowed);
    return -1;
}

int config_init(struct config *config) {
    char message[400];
    *config = (struct config){0};
    for (int i = 0; i < config_option_count; i++)
        if (config_options[i].standard &&
            config_set(config, config_options[i].name, config_options[i].standard, message,
                       sizeof message) < 0)
            return -1;
    return 0;
}

void config_deinit(struct config *config) {
    free(config->socket);
    free(config->tcp);
    free(config->tls);
    free(config->tls_certificate);
    free(config->tls_key);
    free(config->tls_client_ca);
    free(config->tls_crl);
    free(config->disk);
    free(config->disk_key);
    free(config->recall_plugin);
    free(config->metrics);
    free(config->tenants);
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

/* What one option needs of others. 0, or -1 with the fault in message. */
static int check_sockets(const struct config *config, char *message, int message_bytes) {
    union address address;
    if (config->tcp && !config->tcp_beyond_loopback &&
        !address_parse_loopback(config->tcp, &address)) {
        snprintf(message, (size_t)message_bytes,
                 "tcp = %s: beyond loopback there has to be TLS: `tls` in its place; "
                 "tcp_beyond_loopback = yes does without",
                 config->tcp);
        return -1;
    }
    if (config->tls && !(config->tls_certificate && config->tls_key && config->tls_client_ca)) {
        snprintf(message, (size_t)message_bytes,
                 "tls = %s: it needs tls_certificate, tls_key and tls_client_ca", config->tls);
        return -1;
    }
    return 0;
}

int config_finish(struct config *config, char *message, int message_bytes) {
    if (check_sockets(config, message, message_bytes) < 0)
        return -1;
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

/* Appends "NAME BEFORE -> AFTER" to a list. */
static void add_change(const struct config_option *option, const char *before, const char *after,
                       char *list, size_t bytes) {
    size_t at = strlen(list);
    snprintf(list + at, bytes - at, "%s%s %s -> %s", at ? ", " : "", option->name, before, after);
}

void config_take_live(struct config *config, const struct config *fresh,
                      struct config_changes *changes) {
    char before[CONFIG_VALUE_BYTES], after[CONFIG_VALUE_BYTES];
    *changes = (struct config_changes){0};
    for (int i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        config_option_write(option, config, before);
        config_option_write(option, fresh, after);
        if (strcmp(before, after) == 0)
            continue;
        if (option->live)
            memcpy((char *)config + option->offset, (const char *)fresh + option->offset,
                   sizeof(uint64_t));
        add_change(option, before, after, option->live ? changes->made : changes->waiting,
                   sizeof changes->made);
    }
}
