/* Fetching what is on disk alone, beside fetching it from memory.
 *
 *   bench_disk_fetch KVQUANTD [--directory FOLDER] [--level 3] [--shape 8x128] [--sessions N]
 *                    [--rounds N] [--memory SIZE] [--key no|yes]
 *
 * Stores the sessions with a daemon whose disk is in that folder. A round fetches all of them four
 * times: from memory; with a daemon that has just started, from files that the system has cached;
 * and from the device, as far as the system drops what it cached; and its files are read once as
 * plain files from there. Prints a line of JSON for each (json_line.h): GB/s of the 16-bit values,
 * and medians over rounds of its speed over memory's and, `of_bound`, over the slower of memory's
 * and the files'.
 */
#include "tests/bench/arguments.h"
#include "tests/bench/clock.h"
#include "tests/bench/contender.h"
#include "tests/bench/disk_folder.h"
#include "tests/bench/fail.h"
#include "tests/bench/folder.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kvq_store.h"
#include "tests/bench/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ROUNDS_MOST = 100, PATH_MOST_BYTES = 256 };

enum { FROM_MEMORY, FROM_PAGE_CACHE, FROM_DEVICE, FILES, KINDS };
static const char *const kinds[KINDS] = {"memory", "page cache", "device", "plain files"};

static struct {
    const char *program, *folder, *memory, *directory;
    char config[PATH_MOST_BYTES];
    struct kvq_daemon daemon;
    struct kvq_store store;
    struct contender contender;
    struct workload workload;
    unsigned rounds;
    double seconds[KINDS][ROUNDS_MOST];
} bench;

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) < 0)
        fail(path);
}

static void configure(bool encrypted) {
    char key[PATH_MOST_BYTES], text[4 * PATH_MOST_BYTES], line[2 * PATH_MOST_BYTES] = "";
    snprintf(key, sizeof key, "%s/key", bench.folder);
    snprintf(bench.config, sizeof bench.config, "%s/kvquantd.conf", bench.folder);
    if (encrypted) {
        write_file(key, "0123456789abcdef0123456789abcdef");
        chmod(key, 0600);
        snprintf(line, sizeof line, "disk_key = %s\n", key);
    }
    snprintf(text, sizeof text, "disk = %s\ndisk_size = 64G\n%s", bench.directory, line);
    write_file(bench.config, text);
}

static void start(void) {
    kvq_daemon_start_configured(&bench.daemon, bench.program, bench.folder, bench.memory,
                                bench.config);
}

static void restart(void) {
    kvq_daemon_stop(&bench.daemon);
    start();
}

static void store_all(void) {
    void *connection = bench.contender.connect(bench.contender.context);
    for (uint32_t i = 0; i < bench.workload.sessions; i++)
        bench.contender.append(connection, &bench.workload, i);
    bench.contender.disconnect(connection);
}

static double fetch_all(void) {
    void *connection = bench.contender.connect(bench.contender.context);
    workload_spoil_targets(&bench.workload);
    double begin = clock_seconds();
    for (uint32_t i = 0; i < bench.workload.sessions; i++)
        bench.contender.fetch(connection, &bench.workload, i);
    double seconds = clock_seconds() - begin;
    bench.contender.disconnect(connection);
    workload_verify(&bench.workload, bench.contender.exact, bench.contender.name);
    return seconds;
}

static void run_round(unsigned round) {
    bench.seconds[FROM_MEMORY][round] = fetch_all();
    restart();
    bench.seconds[FROM_PAGE_CACHE][round] = fetch_all();
    restart();
    disk_folder_drop_cache(bench.directory);
    bench.seconds[FILES][round] = disk_folder_read(bench.directory);
    disk_folder_drop_cache(bench.directory);
    bench.seconds[FROM_DEVICE][round] = fetch_all();
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, bench.rounds, sizeof *values, compare);
    return values[bench.rounds / 2];
}

static void print(int kind) {
    double of_memory[ROUNDS_MOST], of_bound[ROUNDS_MOST], gb_per_second[ROUNDS_MOST];
    double bytes = (double)bench.workload.session_bytes * bench.workload.sessions;
    for (unsigned i = 0; i < bench.rounds; i++) {
        double seconds = bench.seconds[kind][i], memory = bench.seconds[FROM_MEMORY][i];
        double files = kind == FROM_DEVICE ? bench.seconds[FILES][i] : 0;
        of_memory[i] = memory / seconds;
        of_bound[i] = (memory > files ? memory : files) / seconds;
        gb_per_second[i] = 1e-9 * bytes / seconds;
    }
    json_begin("disk fetch");
    json_string("from", kinds[kind]);
    json_string("level", bench.store.level);
    json_number("gb_per_second", median(gb_per_second));
    json_number("of_memory", median(of_memory));
    json_number("of_bound", median(of_bound));
    json_end();
}

int main(int argc, char **argv) {
    enum { DIRECTORY, LEVEL, SHAPE, SESSIONS, ROUNDS, MEMORY, KEY, COUNT };
    struct argument arguments[COUNT] = {
        {"--directory", "/tmp/kvq-bench-disk", NULL},
        {"--level", "3", NULL},
        {"--shape", "8x128", NULL},
        {"--sessions", "16", NULL},
        {"--rounds", "5", NULL},
        {"--memory", "2G", NULL},
        {"--key", "no", NULL},
    };
    bench.program = arguments_parse(argc, argv, arguments, COUNT);
    bench.folder = folder_make();
    bench.directory = arguments[DIRECTORY].value;
    bench.memory = arguments[MEMORY].value;
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MOST);
    bench.store = (struct kvq_store){
        .daemon = &bench.daemon, .level = arguments[LEVEL].value, .settle = true};
    bench.contender = kvq_store_contender(&bench.store);
    workload_init(&bench.workload, arguments[SHAPE].value,
                  argument_number(&arguments[SESSIONS], WORKLOAD_SESSIONS_MAX));
    configure(strcmp(arguments[KEY].value, "no") != 0);
    start();
    store_all();
    fetch_all(); /* a rehearsal */
    for (unsigned round = 0; round < bench.rounds; round++)
        run_round(round);
    for (int kind = 0; kind < KINDS; kind++)
        print(kind);
    kvq_daemon_stop(&bench.daemon);
    disk_folder_remove(bench.directory);
    workload_deinit(&bench.workload);
    return EXIT_SUCCESS;
}
