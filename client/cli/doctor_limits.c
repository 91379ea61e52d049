/* Checks of memory and of the limits that the daemon runs under. */
#include "client/cli/doctor.h"
#include "client/cli/words.h"

#include <stdio.h>
#include <string.h>

enum {
    FILES_LEAST = 4096,   /* a connection takes one */
    OWN_BYTES = 64 << 20, /* what the daemon takes beside its limit: program, stacks, kernel */
    PHYSICAL_PERCENT_MOST = 90, /* of it, that the limit may be */
};

static void not_seen(struct finding *finding, const char *what) {
    find(finding, FINDING_WARN, "%s cannot be seen", what);
    advise(finding, "run this as root, or as the daemon's user");
}

static void check_files(const struct machine *machine, struct finding *finding) {
    char limits[MACHINE_FILE_BYTES];
    uint64_t files;
    if (machine->pid == 0) {
        find(finding, FINDING_OK, "no daemon runs; its unit asks for 65536 open files");
    } else if (!machine_read_process(machine, "limits", limits)) {
        not_seen(finding, "the daemon's limit of open files");
    } else if (!number_after(limits, "Max open files", &files)) {
        find(finding, FINDING_OK, "open files are not limited");
    } else {
        find(finding, files < FILES_LEAST ? FINDING_WARN : FINDING_OK,
             "the daemon may have %llu files open", (unsigned long long)files);
        if (files < FILES_LEAST)
            advise(finding, "each connection takes one: LimitNOFILE=65536 in its unit");
    }
}

static void check_memory(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES], limit[WORD_BYTES], physical[WORD_BYTES];
    uint64_t kib, limit_bytes = machine_memory_limit(machine);
    if (!machine_read(machine, "/proc/meminfo", text) || !number_after(text, "MemTotal:", &kib)) {
        not_seen(finding, "how much memory there is");
        return;
    }
    uint64_t total = kib << 10;
    enum finding_state state = limit_bytes + OWN_BYTES > total                     ? FINDING_FAIL
                               : limit_bytes > total / 100 * PHYSICAL_PERCENT_MOST ? FINDING_WARN
                                                                                   : FINDING_OK;
    find(finding, state, "its limit is %s, the machine has %s", bytes_text(limit_bytes, limit),
         bytes_text(total, physical));
    if (state != FINDING_OK)
        advise(finding, "set `memory` to %s at most: the rest of the machine needs some",
               bytes_text(total / 100 * PHYSICAL_PERCENT_MOST, limit));
}

/* The folder of the daemon's control group, with `file` behind it; upwards, as long as there is a
 * folder. */
static bool group_of(const struct machine *machine, char group[MACHINE_PATH_BYTES]) {
    char text[MACHINE_FILE_BYTES];
    const char *name = "/system.slice/kvquantd.service";
    if (machine->pid > 0) {
        if (!machine_read_process(machine, "cgroup", text))
            return false;
        char *line = strstr(text, "0::");
        if (!line)
            return false;
        line[strcspn(line, "\n")] = '\0';
        name = line + strlen("0::");
        snprintf(group, MACHINE_PATH_BYTES, "/sys/fs/cgroup%s", name);
        return true;
    }
    snprintf(group, MACHINE_PATH_BYTES, "/sys/fs/cgroup%s", name);
    return true;
}

/* The least of a limit in the group and those above it; UINT64_MAX: none. */
static uint64_t group_limit(const struct machine *machine, const char *file) {
    char group[MACHINE_PATH_BYTES], path[2 * MACHINE_PATH_BYTES], text[MACHINE_FILE_BYTES];
    uint64_t least = UINT64_MAX, limit;
    if (!group_of(machine, group))
        return least;
    while (strlen(group) > strlen("/sys/fs/cgroup")) {
        snprintf(path, sizeof path, "%s/%s", group, file);
        if (machine_read(machine, path, text) && number_from_text(text, &limit) && limit < least)
            least = limit;
        *strrchr(group, '/') = '\0';
    }
    return least;
}

static void check_group(const struct machine *machine, struct finding *finding) {
    char own[WORD_BYTES], most[WORD_BYTES];
    uint64_t limit = machine_memory_limit(machine), max = group_limit(machine, "memory.max");
    if (max == UINT64_MAX) {
        find(finding, FINDING_OK, "no control group limits its memory");
        return;
    }
    bool low = max < limit + OWN_BYTES;
    find(finding, low ? FINDING_FAIL : FINDING_OK, "its control group may take %s, its limit is %s",
         bytes_text(max, most), bytes_text(limit, own));
    if (low)
        advise(finding, "the kernel would kill it: MemoryMax=%s at least, or a lower `memory`",
               bytes_text(limit + limit / 8 + OWN_BYTES, own));
}

static void check_overcommit(const struct machine *machine, struct finding *finding) {
    char mode[MACHINE_FILE_BYTES], text[MACHINE_FILE_BYTES], left[WORD_BYTES];
    uint64_t limit_kib, used_kib;
    if (!machine_read(machine, "/proc/sys/vm/overcommit_memory", mode)) {
        not_seen(finding, "vm.overcommit_memory");
        return;
    }
    find(finding, FINDING_OK, "vm.overcommit_memory = %.8s", mode);
    if (strcmp(mode, "2") != 0 || !machine_read(machine, "/proc/meminfo", text) ||
        !number_after(text, "CommitLimit:", &limit_kib) ||
        !number_after(text, "Committed_AS:", &used_kib))
        return;
    uint64_t free_bytes = limit_kib > used_kib ? (limit_kib - used_kib) << 10 : 0;
    uint64_t need = machine_memory_limit(machine) + OWN_BYTES;
    if (machine->pid > 0)
        need -= machine->stats.used_bytes < need ? machine->stats.used_bytes : need;
    if (free_bytes >= need)
        return;
    find(finding, FINDING_FAIL, "vm.overcommit_memory = 2, and only %s can still be promised",
         bytes_text(free_bytes, left));
    advise(finding, "raise vm.overcommit_ratio, or set vm.overcommit_memory = 0");
}

/* Lines behind the first are a device each. */
static int swaps_in_the_clear(const char *text) {
    int count = 0;
    for (const char *line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
        line++;
        bool in_memory = strncmp(line, "/dev/zram", strlen("/dev/zram")) == 0;
        bool mapped = strncmp(line, "/dev/dm-", strlen("/dev/dm-")) == 0; /* encrypted, usually */
        count += *line && !in_memory && !mapped;
    }
    return count;
}

static void check_swap(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES];
    if (!machine_read(machine, "/proc/swaps", text)) {
        not_seen(finding, "what memory is swapped to");
    } else if (swaps_in_the_clear(text) == 0) {
        find(finding, FINDING_OK, "memory is swapped to no plain disk");
    } else if (group_limit(machine, "memory.swap.max") == 0) {
        find(finding, FINDING_OK, "the daemon's memory is not swapped");
    } else {
        find(finding, FINDING_WARN,
             "its memory may be swapped to disk, where prompts can be read back from it");
        advise(finding, "MemorySwapMax=0 in its unit, or encrypt the swap device");
    }
}

/* The word in brackets is what holds. */
static void check_huge_pages(const struct machine *machine, struct finding *finding) {
    char text[MACHINE_FILE_BYTES];
    if (!machine_read(machine, "/sys/kernel/mm/transparent_hugepage/shmem_enabled", text)) {
        find(finding, FINDING_OK, "this kernel has no huge pages for shared memory");
    } else if (strstr(text, "[never]") || strstr(text, "[deny]")) {
        find(finding, FINDING_WARN, "shared memory has small pages only");
        advise(finding, "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled: a "
                        "restart lets go of memory in a quarter of the time");
    } else {
        find(finding, FINDING_OK, "shared memory may have huge pages");
    }
}

static const struct check rows[] = {
    {"memory", check_memory},    {"memory group", check_group},
    {"open files", check_files}, {"overcommit", check_overcommit},
    {"swap", check_swap},        {"huge pages", check_huge_pages},
};
const struct checks limit_checks = {rows, sizeof rows / sizeof *rows};
