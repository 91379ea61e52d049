/* Checks of who may read and write the daemon's files. */
#include "client/cli/doctor.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE_BY_OTHERS = S_IWGRP | S_IWOTH, ANY_BY_OTHERS = S_IRWXG | S_IRWXO };

/* False: said. A name without a slash is one that the service manager hands over. */
static bool look(const struct machine *machine, const char *path, struct stat *status,
                 struct finding *finding) {
    char whole[MACHINE_PATH_BYTES];
    if (!strchr(path, '/')) {
        find(finding, FINDING_OK, "%.200s is handed over by the service manager", path);
        return false;
    }
    if (stat(machine_path(machine, path, whole), status) == 0)
        return true;
    bool hidden = errno == EACCES;
    find(finding, hidden ? FINDING_WARN : FINDING_FAIL, "%.200s: %s", path, strerror(errno));
    advise(finding, hidden ? "run this as root, or as the daemon's user"
                           : "the daemon does not start without it");
    return false;
}

/* Held against what others may do with it. */
static void check_mode(const struct machine *machine, const char *path, mode_t refused,
                       const char *advice, struct finding *finding) {
    struct stat status;
    if (!look(machine, path, &status, finding))
        return;
    bool loose = status.st_mode & refused;
    find(finding, loose ? FINDING_FAIL : FINDING_OK, "%.200s has mode %04o", path,
         (unsigned)status.st_mode & 07777);
    if (loose)
        advise(finding, "%s %.200s", advice, path);
}

static void check_config(const struct machine *machine, struct finding *finding) {
    char whole[MACHINE_PATH_BYTES];
    const struct settings *settings = &machine->settings;
    if (!settings->is_given && access(machine_path(machine, settings->config, whole), F_OK) < 0)
        find(finding, FINDING_OK, "there is no %.200s: defaults hold", settings->config);
    else
        check_mode(machine, settings->config, WRITE_BY_OTHERS,
                   "who can write it says where prompts go: chmod go-w", finding);
}

static void check_tenants(const struct machine *machine, struct finding *finding) {
    const struct settings *settings = &machine->settings;
    if (!settings_lack(settings, settings->tenants,
                       "no `tenants`: who can connect can read every session", finding)) {
        check_mode(machine, settings->tenants, WRITE_BY_OTHERS,
                   "who can write it is everybody's admin: chmod go-w", finding);
    } else if (!settings->is_hidden) {
        finding->state = FINDING_WARN;
        advise(finding, "fine for one user; else write a tenants file (kvquantd.conf(5))");
    }
}

static void check_disk_key(const struct machine *machine, struct finding *finding) {
    const struct settings *settings = &machine->settings;
    if (!settings_lack(settings, settings->disk_key, "no `disk_key`", finding)) {
        check_mode(machine, settings->disk_key, ANY_BY_OTHERS, "chmod 600", finding);
    } else if (settings->disk[0]) {
        find(finding, FINDING_WARN, "no `disk_key`: what is on disk is in the clear");
        advise(finding, "fine where the disk itself is encrypted; else head -c 32 /dev/urandom "
                        "into a file of mode 0600, and name it");
    }
}

static void check_tls_key(const struct machine *machine, struct finding *finding) {
    const struct settings *settings = &machine->settings;
    if (!settings_lack(settings, settings->tls_key, "no `tls_key`: no TLS", finding))
        check_mode(machine, settings->tls_key, ANY_BY_OTHERS, "chmod 600", finding);
}

static void check_socket(const struct machine *machine, struct finding *finding) {
    char whole[MACHINE_PATH_BYTES];
    struct stat status;
    const char *socket = machine->socket;
    if (!socket || !strchr(socket, '/') ||
        stat(machine_path(machine, socket, whole), &status) < 0) {
        find(finding, FINDING_OK, "there is no socket's file to look at");
        return;
    }
    bool open = status.st_mode & S_IWOTH && !machine->settings.tenants[0];
    find(finding, open ? FINDING_WARN : FINDING_OK, "%.200s has mode %04o", socket,
         (unsigned)status.st_mode & 07777);
    if (open)
        advise(finding, "every user of this machine can read every session: `socket_mode = 0660`, "
                        "or `tenants`");
}

static void check_folder(const struct machine *machine, struct finding *finding) {
    const struct settings *settings = &machine->settings;
    if (!settings_lack(settings, settings->disk, "no `disk`: nothing is written there", finding))
        check_mode(machine, settings->disk, ANY_BY_OTHERS,
                   "prompts can be read back from what is in it: chmod 700", finding);
}

static const struct check rows[] = {
    {"config", check_config},      {"socket", check_socket},     {"tenants", check_tenants},
    {"disk folder", check_folder}, {"disk key", check_disk_key}, {"TLS key", check_tls_key},
};
const struct checks file_checks = {rows, sizeof rows / sizeof *rows};
