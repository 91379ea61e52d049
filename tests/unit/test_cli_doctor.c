/* The checks of `kvq doctor`, on machines made up of a few files. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/doctor.h"

static char root[] = "/tmp/kvq-doctor-XXXXXX";
static struct machine machine;

static void set_up(void) {
    strcpy(root + strlen(root) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    machine = (struct machine){.root = root, .failure = "it is not there"};
    settings_read(NULL, &machine);
}

static void tear_down(void) {
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}

static void make_folders(char *path) {
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void put_bytes(const char *path, const char *bytes, size_t count, mode_t mode) {
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    make_folders(whole);
    FILE *file = fopen(whole, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
    fclose(file);
    ck_assert_int_eq(chmod(whole, mode), 0);
}

static void put(const char *path, const char *text) {
    put_bytes(path, text, strlen(text), 0600);
}

/* A daemon that answers, of this process number. */
static void run_daemon(void) {
    machine.failure = NULL;
    machine.socket = "/run/kvquantd.sock";
    machine.stats = (struct kvq_stats){.version = kvq_version(), .limit_bytes = 1 << 30};
    machine.stats.takeover.why = "";
    put("/proc/77/comm", "kvquantd\n");
    machine_find_process(&machine, 77);
    ck_assert_uint_eq(machine.pid, 77);
}

static struct finding look(const struct checks *group, const char *name) {
    struct finding finding = {0};
    const struct check *check = group->rows;
    while (check < group->rows + group->count && strcmp(check->name, name) != 0)
        check++;
    ck_assert_msg(check < group->rows + group->count, "no check \"%s\"", name);
    check->run(&machine, &finding);
    ck_assert_msg(finding.found[0] != '\0', "%s says nothing", name);
    ck_assert_msg(finding.state == FINDING_OK || finding.advice[0], "%s gives no advice", name);
    ck_assert_msg(finding.state != FINDING_OK || !finding.advice[0], "%s: %s", name,
                  finding.advice);
    return finding;
}

static void expect(const struct checks *group, const char *name, enum finding_state state) {
    struct finding finding = look(group, name);
    ck_assert_msg(finding.state == state, "%s: %d, %s", name, (int)finding.state, finding.found);
}

START_TEST(every_check_says_something_of_an_empty_machine) {
    static const struct checks *const groups[] = {&daemon_checks, &limit_checks,
                                                  &file_checks,   &certificate_checks,
                                                  &disk_checks,   &system_checks};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (int j = 0; j < groups[i]->count; j++)
            look(groups[i], groups[i]->rows[j].name);
}
END_TEST

START_TEST(a_daemon_that_does_not_answer_is_a_failure) {
    expect(&daemon_checks, "daemon", FINDING_FAIL);
    run_daemon();
    expect(&daemon_checks, "daemon", FINDING_OK);
}
END_TEST

START_TEST(versions_are_compared) {
    run_daemon();
    expect(&daemon_checks, "versions", FINDING_OK);
    machine.stats.version = "0.99.9";
    expect(&daemon_checks, "versions", FINDING_WARN);
    machine.stats.version = "99.0.0";
    expect(&daemon_checks, "versions", FINDING_FAIL);
}
END_TEST

START_TEST(a_daemon_that_takes_nothing_is_told) {
    run_daemon();
    expect(&daemon_checks, "state", FINDING_OK);
    machine.stats.state = KVQ_STATE_DRAINED;
    expect(&daemon_checks, "state", FINDING_WARN);
}
END_TEST

START_TEST(a_process_of_another_name_is_not_the_daemons) {
    put("/proc/78/comm", "bash\n");
    machine_find_process(&machine, 78);
    ck_assert_uint_eq(machine.pid, 0);
}
END_TEST

START_TEST(the_limit_is_held_against_the_memory_there_is) {
    put("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       16777216 kB\n");
    machine.settings.memory_bytes = UINT64_C(8) << 30;
    expect(&limit_checks, "memory", FINDING_OK);
    machine.settings.memory_bytes = UINT64_C(15) << 30;
    expect(&limit_checks, "memory", FINDING_WARN);
    machine.settings.memory_bytes = UINT64_C(16) << 30;
    expect(&limit_checks, "memory", FINDING_FAIL);
}
END_TEST

START_TEST(the_limit_is_held_against_that_of_the_control_group_or_one_above_it) {
    run_daemon();
    put("/proc/77/cgroup", "0::/system.slice/kvquantd.service\n");
    put("/sys/fs/cgroup/system.slice/kvquantd.service/memory.max", "max\n");
    expect(&limit_checks, "memory group", FINDING_OK);
    put("/sys/fs/cgroup/system.slice/memory.max", "2147483648\n");
    expect(&limit_checks, "memory group", FINDING_OK);
    put("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
    expect(&limit_checks, "memory group", FINDING_FAIL);
}
END_TEST

START_TEST(few_open_files_are_told) {
    run_daemon();
    put("/proc/77/limits",
        "Max open files            1024                 524288               files\n");
    expect(&limit_checks, "open files", FINDING_WARN);
    put("/proc/77/limits",
        "Max open files            65536                65536                files\n");
    expect(&limit_checks, "open files", FINDING_OK);
}
END_TEST

START_TEST(strict_overcommit_needs_room_for_the_limit) {
    put("/proc/sys/vm/overcommit_memory", "0\n");
    put("/proc/meminfo", "CommitLimit: 1048576 kB\nCommitted_AS: 524288 kB\n");
    expect(&limit_checks, "overcommit", FINDING_OK);
    put("/proc/sys/vm/overcommit_memory", "2\n");
    expect(&limit_checks, "overcommit", FINDING_FAIL);
    put("/proc/meminfo", "CommitLimit: 8388608 kB\nCommitted_AS: 524288 kB\n");
    expect(&limit_checks, "overcommit", FINDING_OK);
}
END_TEST

START_TEST(swap_to_a_plain_disk_is_told_unless_the_daemon_is_kept_from_it) {
    static const char head[] = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
    char swaps[256];
    put("/proc/swaps", head);
    expect(&limit_checks, "swap", FINDING_OK);
    snprintf(swaps, sizeof swaps, "%s/dev/zram0 partition 1 0 100\n/dev/dm-1 partition 1 0 -2\n",
             head);
    put("/proc/swaps", swaps);
    expect(&limit_checks, "swap", FINDING_OK);
    snprintf(swaps, sizeof swaps, "%s/dev/sda2 partition 1 0 -2\n", head);
    put("/proc/swaps", swaps);
    expect(&limit_checks, "swap", FINDING_WARN);
    put("/sys/fs/cgroup/system.slice/kvquantd.service/memory.swap.max", "0\n");
    expect(&limit_checks, "swap", FINDING_OK);
}
END_TEST

START_TEST(small_pages_of_shared_memory_are_told) {
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    put(path, "always within_size advise [never] deny force\n");
    expect(&limit_checks, "huge pages", FINDING_WARN);
    put(path, "always within_size [advise] never deny force\n");
    expect(&limit_checks, "huge pages", FINDING_OK);
}
END_TEST

START_TEST(files_that_others_can_write_or_keys_that_they_can_read_are_failures) {
    static const struct {
        const char *check, *path;
        mode_t good, bad;
    } files[] = {{"config", "/etc/kvquant/kvquantd.conf", 0644, 0664},
                 {"tenants", "/etc/kvquant/tenants", 0644, 0602},
                 {"disk key", "/etc/kvquant/disk.key", 0600, 0640},
                 {"TLS key", "/etc/kvquant/tls.key", 0400, 0604}};
    static const char config[] = "tenants = /etc/kvquant/tenants\ntls_key = /etc/kvquant/tls.key\n"
                                 "disk = /pool\ndisk_key = /etc/kvquant/disk.key\n";
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            const char *text = i == 0 ? config : "";
            put_bytes(files[i].path, text, strlen(text), pass == 0 ? files[i].good : files[i].bad);
            settings_read(NULL, &machine);
            expect(&file_checks, files[i].check, pass == 0 ? FINDING_OK : FINDING_FAIL);
        }
}
END_TEST

START_TEST(a_key_that_is_missing_is_a_failure_and_one_of_the_service_managers_is_not) {
    put("/etc/kvquant/kvquantd.conf", "disk_key = /nowhere\n");
    settings_read(NULL, &machine);
    expect(&file_checks, "disk key", FINDING_FAIL);
    put("/etc/kvquant/kvquantd.conf", "disk_key = disk.key\n");
    settings_read(NULL, &machine);
    expect(&file_checks, "disk key", FINDING_OK);
}
END_TEST

START_TEST(the_running_daemons_configuration_counts) {
    static const char words[] = "/usr/bin/kvquantd\0--config\0/own.conf\0--memory\0002G";
    put("/etc/kvquant/kvquantd.conf", "disk = /wrong\n");
    put("/own.conf", "disk = /right\ndisk_size = 3G\nmemory = 1G\n");
    put_bytes("/proc/77/cmdline", words, sizeof words, 0600);
    run_daemon();
    settings_read(NULL, &machine);
    ck_assert_str_eq(machine.settings.disk, "/right");
    ck_assert_uint_eq(machine.settings.disk_bytes, UINT64_C(3) << 30);
    ck_assert_uint_eq(machine.settings.memory_bytes, UINT64_C(2) << 30);
}
END_TEST

START_TEST(the_disk_folder_is_measured_and_nothing_stays_in_it) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pool", root);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    put("/etc/kvquant/kvquantd.conf", "disk = /pool\ndisk_size = 1M\n");
    settings_read(NULL, &machine);
    struct finding speed = look(&disk_checks, "disk speed");
    ck_assert_ptr_nonnull(strstr(speed.found, "MiB/s"));
    expect(&disk_checks, "disk room", FINDING_OK);
    expect(&file_checks, "disk folder", FINDING_OK);
    expect(&file_checks, "disk key", FINDING_WARN);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    expect(&file_checks, "disk folder", FINDING_FAIL);
}
END_TEST

START_TEST(less_room_than_disk_size_is_told) {
    put("/etc/kvquant/kvquantd.conf", "disk = /\ndisk_size = 900T\n");
    settings_read(NULL, &machine);
    expect(&disk_checks, "disk room", FINDING_WARN);
}
END_TEST

START_TEST(the_kernel_and_its_clock_are_looked_at) {
    static const char clock[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    put("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
    put(clock, "tsc\n");
    put("/proc/sys/net/core/somaxconn", "4096\n");
    expect(&system_checks, "kernel", FINDING_OK);
    expect(&system_checks, "clock source", FINDING_OK);
    expect(&system_checks, "backlog", FINDING_OK);
    put("/proc/sys/kernel/osrelease", "5.4.0\n");
    put(clock, "hpet\n");
    put("/proc/sys/net/core/somaxconn", "128\n");
    expect(&system_checks, "kernel", FINDING_WARN);
    expect(&system_checks, "clock source", FINDING_WARN);
    expect(&system_checks, "backlog", FINDING_WARN);
}
END_TEST

START_TEST(core_files_that_are_allowed_are_told_unless_the_limit_holds_for_who_takes_them) {
    run_daemon();
    put("/proc/sys/kernel/core_pattern", "core\n");
    put("/proc/77/limits",
        "Max core file size        unlimited            unlimited            bytes\n");
    expect(&system_checks, "core files", FINDING_OK);
    put("/etc/kvquant/kvquantd.conf", "core_files = yes\n");
    settings_read("/etc/kvquant/kvquantd.conf", &machine);
    expect(&system_checks, "core files", FINDING_WARN);
    put("/proc/77/limits",
        "Max core file size        0                    0                    bytes\n");
    expect(&system_checks, "core files", FINDING_OK);
    put("/proc/sys/kernel/core_pattern", "|/usr/share/apport/apport %p\n");
    expect(&system_checks, "core files", FINDING_WARN);
    put("/proc/sys/kernel/core_pattern", "|/lib/systemd/systemd-coredump %P %c\n");
    expect(&system_checks, "core files", FINDING_OK);
}
END_TEST

START_TEST(the_unit_and_its_drop_ins_are_found) {
    put("/usr/lib/systemd/system/kvquantd.service", "");
    put("/etc/systemd/system/kvquantd.service.d/tcp.conf", "");
    struct finding unit = look(&system_checks, "unit");
    ck_assert_str_eq(unit.found, "/usr/lib/systemd/system/kvquantd.service, with 1 drop-in");
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        every_check_says_something_of_an_empty_machine,
        a_daemon_that_does_not_answer_is_a_failure,
        versions_are_compared,
        a_daemon_that_takes_nothing_is_told,
        a_process_of_another_name_is_not_the_daemons,
        the_limit_is_held_against_the_memory_there_is,
        the_limit_is_held_against_that_of_the_control_group_or_one_above_it,
        few_open_files_are_told,
        strict_overcommit_needs_room_for_the_limit,
        swap_to_a_plain_disk_is_told_unless_the_daemon_is_kept_from_it,
        small_pages_of_shared_memory_are_told,
        files_that_others_can_write_or_keys_that_they_can_read_are_failures,
        a_key_that_is_missing_is_a_failure_and_one_of_the_service_managers_is_not,
        the_running_daemons_configuration_counts,
        the_disk_folder_is_measured_and_nothing_stays_in_it,
        less_room_than_disk_size_is_told,
        the_kernel_and_its_clock_are_looked_at,
        core_files_that_are_allowed_are_told_unless_the_limit_holds_for_who_takes_them,
        the_unit_and_its_drop_ins_are_found,
    };
    Suite *suite = suite_create("doctor");
    TCase *cases = tcase_create("checks");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
