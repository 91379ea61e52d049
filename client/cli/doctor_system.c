/* Checks of the kernel, its clock and what the service manager has of the daemon. */
#include "client/cli/doctor.h"
#include "client/cli/words.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

enum { KERNEL_LEAST = 5010, BACKLOG_LEAST = 1024 };

static void check_kernel(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES];
    const char *rest = text;
    uint64_t major = 0, minor = 0;
    bool known = machine_read(machine, "/proc/sys/kernel/osrelease", text) &&
                 number_prefix(text, &rest, &major) && *rest == '.' &&
                 number_prefix(rest + 1, &rest, &minor);
    bool old = !known || major * 1000 + minor < KERNEL_LEAST;
    find(finding, old ? FINDING_WARN : FINDING_OK, "Linux %.40s", known ? text : "of no version");
    if (old)
        advise(finding, "nobody has tried kvquantd below Linux 5.10");
}

static void check_clock_source(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES];
    static const char path[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if (!machine_read(machine, path, text)) {
        find(finding, FINDING_OK, "the kernel does not say what it takes the time from");
        return;
    }
    bool slow =
        strcmp(text, "hpet") == 0 || strcmp(text, "acpi_pm") == 0 || strcmp(text, "jiffies") == 0;
    find(finding, slow ? FINDING_WARN : FINDING_OK, "the time is taken from %.20s", text);
    if (slow)
        advise(finding, "every request asks for the time: let the kernel use tsc (dmesg says why "
                        "it does not)");
}

/* What the kernel says itself: of this machine, whatever the root. */
static void check_clock(const struct machine *machine, struct finding *finding) {
    (void)machine;
    struct timex state = {0};
    bool loose = adjtimex(&state) == TIME_ERROR;
    find(finding, loose ? FINDING_WARN : FINDING_OK, "the clock is %ssynchronised",
         loose ? "not " : "");
    if (loose)
        advise(finding, "timedatectl set-ntp true: the log's times, certificates and TTLs over a "
                        "restart go by it");
}

static void check_backlog(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES];
    uint64_t backlog;
    if (!machine_read(machine, "/proc/sys/net/core/somaxconn", text) ||
        !number_from_text(text, &backlog)) {
        find(finding, FINDING_OK, "net.core.somaxconn cannot be seen");
        return;
    }
    bool low = backlog < BACKLOG_LEAST;
    find(finding, low ? FINDING_WARN : FINDING_OK, "net.core.somaxconn = %llu",
         (unsigned long long)backlog);
    if (low)
        advise(finding, "many clients that connect at once are refused: sysctl "
                        "net.core.somaxconn=4096");
}

/* A program that gets core files gets them whatever the limit is; systemd's heeds it. */
static void check_core_files(const struct machine *machine, struct finding *finding) {
    char pattern[MACHINE_FILE_BYTES], limits[MACHINE_FILE_BYTES];
    uint64_t limit;
    if (!machine->settings.core_files) {
        find(finding, FINDING_OK, "the daemon leaves none");
        return;
    }
    bool piped = machine_read(machine, "/proc/sys/kernel/core_pattern", pattern) &&
                 pattern[0] == '|' && !strstr(pattern, "systemd-coredump");
    bool limited = machine_read_process(machine, "limits", limits) &&
                   number_after(limits, "Max core file size", &limit) && limit == 0;
    bool open = piped || !limited;
    find(finding, open ? FINDING_WARN : FINDING_OK, "`core_files` allows them, %s",
         open ? "and nothing else keeps it from one" : "but its limit does not");
    if (open)
        advise(finding, "names, token ids and keys are in them: set `core_files = no` when the "
                        "fault is found");
}

static int count_drop_ins(const struct machine *machine) {
    char path[MACHINE_PATH_BYTES];
    int count = 0;
    DIR *folder = opendir(machine_path(machine, "/etc/systemd/system/kvquantd.service.d", path));
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        count += length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
    }
    if (folder)
        closedir(folder);
    return count;
}

static void check_unit(const struct machine *machine, struct finding *finding) {
    static const char *const folders[] = {"/etc/systemd/system", "/usr/local/lib/systemd/system",
                                          "/usr/lib/systemd/system", "/lib/systemd/system"};
    char path[MACHINE_PATH_BYTES], unit[MACHINE_PATH_BYTES];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(unit, sizeof unit, "%s/kvquantd.service", folders[i]);
        if (access(machine_path(machine, unit, path), F_OK) < 0)
            continue;
        int drop_ins = count_drop_ins(machine);
        find(finding, FINDING_OK, "%s, with %d drop-in%s", unit, drop_ins,
             drop_ins == 1 ? "" : "s");
        return;
    }
    find(finding, FINDING_OK, "no unit of systemd is installed");
}

static const struct check rows[] = {
    {"kernel", check_kernel},   {"clock source", check_clock_source}, {"clock", check_clock},
    {"backlog", check_backlog}, {"core files", check_core_files},     {"unit", check_unit},
};
const struct checks system_checks = {rows, sizeof rows / sizeof *rows};
