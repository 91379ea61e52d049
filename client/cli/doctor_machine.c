/* What the checks read: the machine's files, the configuration, the daemon's command line. */
#include "client/cli/doctor.h"
#include "client/cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char standard_config[] = "/etc/kvquant/kvquantd.conf";

void find(struct finding *finding, enum finding_state state, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    finding->state = state;
    vsnprintf(finding->found, sizeof finding->found, format, arguments);
    va_end(arguments);
}

void advise(struct finding *finding, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->advice, sizeof finding->advice, format, arguments);
    va_end(arguments);
}

const char *machine_path(const struct machine *machine, const char *path,
                         char whole[MACHINE_PATH_BYTES]) {
    snprintf(whole, MACHINE_PATH_BYTES, "%s%s", machine->root, path);
    return whole;
}

/* How many bytes; -1: it cannot be read. Binary zeros may be among them. */
static ssize_t read_bytes(const struct machine *machine, const char *path,
                          char text[MACHINE_FILE_BYTES]) {
    char whole[MACHINE_PATH_BYTES];
    size_t at = 0;
    ssize_t count = -1;
    int file = open(machine_path(machine, path, whole), O_RDONLY | O_CLOEXEC);
    while (file >= 0 && at < MACHINE_FILE_BYTES - 1 &&
           (count = read(file, text + at, MACHINE_FILE_BYTES - 1 - at)) > 0)
        at += (size_t)count;
    if (file >= 0)
        close(file);
    text[at] = '\0';
    return count < 0 ? -1 : (ssize_t)at;
}

bool machine_read(const struct machine *machine, const char *path, char text[MACHINE_FILE_BYTES]) {
    ssize_t count = read_bytes(machine, path, text);
    size_t length = strlen(text);
    while (length > 0 && strchr(" \n\t", text[length - 1]))
        text[--length] = '\0';
    return count >= 0;
}

bool machine_read_process(const struct machine *machine, const char *name,
                          char text[MACHINE_FILE_BYTES]) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%llu/%s", (unsigned long long)machine->pid, name);
    text[0] = '\0';
    return machine->pid > 0 && machine_read(machine, path, text);
}

bool number_after(const char *text, const char *name, uint64_t *number) {
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) != 0)
            continue;
        const char *end, *digits = line + length + strspn(line + length, " \t");
        return number_prefix(digits, &end, number);
    }
    return false;
}

/* ---- the configuration ---- */

static void keep(char path[MACHINE_PATH_BYTES], const char *value) {
    snprintf(path, MACHINE_PATH_BYTES, "%s", value);
}

static void take(struct settings *settings, const char *name, const char *value) {
    const struct {
        const char *name;
        char *path;
    } paths[] = {{"disk", settings->disk},
                 {"disk_key", settings->disk_key},
                 {"tenants", settings->tenants},
                 {"tls_key", settings->tls_key},
                 {"tls_certificate", settings->tls_certificate},
                 {"tls_client_ca", settings->tls_client_ca}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (strcmp(name, paths[i].name) == 0)
            keep(paths[i].path, value);
    if (strcmp(name, "core_files") == 0)
        settings->core_files = strcmp(value, "yes") == 0;
    else if (strcmp(name, "memory") == 0)
        bytes_from_text(value, &settings->memory_bytes);
    else if (strcmp(name, "disk_size") == 0)
        bytes_from_text(value, &settings->disk_bytes);
}

static int on_line(void *context, const char *section, const char *name, const char *value) {
    (void)section;
    take(context, name, value);
    return 1;
}

/* Takes the daemon's command line, whose words end in zeros: "--disk-key F" is disk_key. */
static void read_command_line(struct machine *machine, bool only_config) {
    char words[MACHINE_FILE_BYTES], path[64];
    snprintf(path, sizeof path, "/proc/%llu/cmdline", (unsigned long long)machine->pid);
    ssize_t count = machine->pid > 0 ? read_bytes(machine, path, words) : -1;
    const char *end = words + (count > 0 ? count : 0);
    for (const char *word = words; word < end; word += strlen(word) + 1) {
        const char *value = word + strlen(word) + 1;
        char name[32];
        if (strncmp(word, "--", 2) != 0 || value >= end)
            continue;
        snprintf(name, sizeof name, "%s", word + 2);
        for (char *c = name; *c; c++)
            *c = *c == '-' ? '_' : *c;
        if (!only_config)
            take(&machine->settings, name, value);
        else if (strcmp(name, "config") == 0)
            keep(machine->settings.config, value);
    }
}

/* The number may be another process's where the daemon has processes of its own (a container). */
void machine_find_process(struct machine *machine, uint64_t pid) {
    char name[MACHINE_FILE_BYTES];
    machine->pid = pid;
    if (!machine_read_process(machine, "comm", name) || strcmp(name, "kvquantd") != 0)
        machine->pid = 0;
}

/* The sizes are the daemon's where nothing is said. */
void settings_read(const char *path, struct machine *machine) {
    struct settings *settings = &machine->settings;
    char whole[MACHINE_PATH_BYTES];
    *settings =
        (struct settings){.memory_bytes = UINT64_C(1) << 30, .disk_bytes = UINT64_C(16) << 30};
    if (path)
        keep(settings->config, path);
    else
        read_command_line(machine, true);
    settings->is_given = settings->config[0] != '\0';
    if (!settings->is_given)
        keep(settings->config, standard_config);
    if (settings->is_given || machine->pid == 0)
        settings->is_hidden =
            ini_parse(machine_path(machine, settings->config, whole), on_line, settings) < 0 &&
            errno == EACCES;
    read_command_line(machine, false);
}

bool settings_lack(const struct settings *settings, const char *path, const char *otherwise,
                   struct finding *finding) {
    if (path[0])
        return false;
    if (settings->is_hidden) {
        find(finding, FINDING_WARN, "not known: %.200s cannot be read", settings->config);
        advise(finding, "run this as root, or as the daemon's user");
    } else {
        find(finding, FINDING_OK, "%s", otherwise);
    }
    return true;
}

uint64_t machine_memory_limit(const struct machine *machine) {
    return machine->failure ? machine->settings.memory_bytes : machine->stats.limit_bytes;
}

uint64_t machine_disk_limit(const struct machine *machine) {
    bool known = !machine->failure && machine->stats.disk.limit_bytes > 0;
    return known ? machine->stats.disk.limit_bytes : machine->settings.disk_bytes;
}
