/* What a daemon takes that nobody asks anything: processor time, and memory for each connection.
 *
 *   bench_idle KVQUANTD [--connections N] [--seconds N]
 *
 * Opens the connections, each of which has said hello, and tells what the daemon's resident memory
 * and its own count (used_bytes) grew by for each. Then, with all of them open and a session
 * stored, waits and tells by how many ticks of processor time (utime and stime) and by how many
 * voluntary context switches all the daemon's threads together went on. Prints one line of JSON
 * (json_line.h).
 */
#include "tests/bench/arguments.h"
#include "tests/bench/fail.h"
#include "tests/bench/folder.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kvq_store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IDLE_CONNECTIONS_MAX = 10000, SECONDS_MAX = 3600, LINE_BYTES = 1024, SETTLE_SECONDS = 1 };

/* The first line of a file of /proc that begins with prefix; NULL if there is none. */
static char *line_of(const char *path, const char *prefix, char line[LINE_BYTES]) {
    FILE *file = fopen(path, "re");
    char *found = NULL;
    while (file && !found && fgets(line, LINE_BYTES, file))
        if (!strncmp(line, prefix, strlen(prefix)))
            found = line;
    if (file)
        fclose(file);
    return found;
}

static double cpu_ticks(pid_t pid) {
    char path[64], line[LINE_BYTES];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    char *fields = line_of(path, "", line);
    fields = fields ? strrchr(fields, ')') : NULL;
    if (!fields || sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                          &system) != 2)
        fail_because("%s is not as expected", path);
    return (double)(user + system);
}

static double context_switches(pid_t pid) {
    static const char key[] = "voluntary_ctxt_switches:";
    char path[300], line[LINE_BYTES];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        fail(path);
    for (struct dirent *task; (task = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.100s/status", (int)pid, task->d_name);
        char *found = task->d_name[0] == '.' ? NULL : line_of(path, key, line);
        sum += found ? strtod(found + strlen(key), NULL) : 0;
    }
    closedir(tasks);
    return sum;
}

static void store_session(struct kvq_client *client) {
    static struct workload workload;
    struct kvq_session_state state;
    workload_init(&workload, "3x64", 1);
    struct kvq_open_options open = {
        .size = sizeof open, .session = "idle", .model = "bench", .geometry = &workload.geometry};
    kvq_check(client, kvq_open(client, &open, &state));
    struct kvq_append_options options = {.size = sizeof options,
                                         .tokens = workload.tokens,
                                         .k.block = workload.source[0],
                                         .v.block = workload.source[0] + workload.part_bytes,
                                         .settle = true};
    kvq_check(client, kvq_append(client, &state, &options));
    workload_deinit(&workload);
}

/* Once the daemon has touched the memory that it touches ahead. */
static void await_steady_memory(struct kvq_client *client, struct kvq_stats *stats) {
    uint64_t rss_bytes;
    kvq_check(client, kvq_stats(client, stats));
    do {
        rss_bytes = stats->rss_bytes;
        sleep(SETTLE_SECONDS);
        kvq_check(client, kvq_stats(client, stats));
    } while (stats->rss_bytes != rss_bytes);
}

static void print(double connections, const struct kvq_stats *before,
                  const struct kvq_stats *after) {
    double rss_bytes = (double)after->rss_bytes - (double)before->rss_bytes;
    double used_bytes = (double)after->used_bytes - (double)before->used_bytes;
    json_number("connections", connections);
    json_number("rss_bytes_each", rss_bytes / connections);
    json_number("used_bytes_each", used_bytes / connections);
}

int main(int argc, char **argv) {
    struct argument arguments[] = {{"--connections", "1000", NULL}, {"--seconds", "60", NULL}};
    const char *program = arguments_parse(argc, argv, arguments, 2);
    const char *folder = folder_make();
    struct kvq_daemon daemon;
    struct kvq_stats before, after;
    unsigned count = argument_number(&arguments[0], IDLE_CONNECTIONS_MAX);
    unsigned seconds = argument_number(&arguments[1], SECONDS_MAX);
    kvq_daemon_start(&daemon, program, "unix", folder, "512M", PLACEMENT_ANY);
    struct kvq_client *client = kvq_daemon_connect(&daemon), **idle = calloc(count, sizeof *idle);
    if (!idle)
        fail("calloc");
    store_session(client);
    await_steady_memory(client, &before);
    for (unsigned i = 0; i < count; i++)
        idle[i] = kvq_daemon_connect(&daemon);
    kvq_check(client, kvq_stats(client, &after));
    json_begin("idle");
    print(count, &before, &after);
    sleep(SETTLE_SECONDS); /* what the last answer left to do is done */
    double ticks = cpu_ticks(daemon.pid), switches = context_switches(daemon.pid);
    sleep(seconds);
    json_number("seconds", seconds);
    json_number("cpu_ticks", cpu_ticks(daemon.pid) - ticks);
    json_number("context_switches", context_switches(daemon.pid) - switches);
    json_end();
    for (unsigned i = 0; i < count; i++)
        kvq_close(idle[i]);
    free(idle);
    kvq_close(client);
    kvq_daemon_stop(&daemon);
    return EXIT_SUCCESS;
}
