/* The disk tier alone: how fast values are written and made durable, found again, and read.
 *
 *   bench_disk [--directory FOLDER] [--mib N] [--parts N] [--part-kib N] [--key no|yes] [--jobs N]
 *
 * Writes values of so many parts through the disk, so many jobs under way, until an fdatasync has
 * reached all; opens the directory anew and lets it be scanned; reads everything, first from the
 * device (as far as the system drops what it cached), then from the page cache. A plain file gets
 * the same bytes in 1 MiB calls before that, and `of_file` is over its speed. Prints a line of JSON
 * for each (json_line.h).
 */
#include "daemon/store/disk/disk.h"
#include "tests/bench/arguments.h"
#include "tests/bench/clock.h"
#include "tests/bench/disk_folder.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20, JOBS_MAX = 64, PATH_BYTES = 512 };

struct slot {
    struct disk_job job;
    uint8_t *memory;
    bool busy;
};

static struct {
    struct disk_options options;
    struct disk *disk;
    struct disk_part parts[DISK_PARTS_MAX]; /* of every value */
    uint32_t part_count;
    size_t value_bytes, values, jobs;
    struct slot slots[JOBS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool scanned;
} bench = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void wake(void) {
    pthread_mutex_lock(&bench.lock);
    pthread_cond_broadcast(&bench.changed);
    pthread_mutex_unlock(&bench.lock);
}

static void note_scanned(void *context) {
    (void)context;
    bench.scanned = true;
    wake();
}

static void note_done(struct disk_job *job) {
    struct slot *slot = job->context;
    if (job->status != DISK_OK)
        fail_because("a job of the disk came to status %d", job->status);
    pthread_mutex_lock(&bench.lock);
    slot->busy = false;
    pthread_cond_broadcast(&bench.changed);
    pthread_mutex_unlock(&bench.lock);
}

static void open_disk(void) {
    char error[256];
    bench.scanned = false;
    bench.disk = disk_open(&bench.options, error, sizeof error);
    if (!bench.disk)
        fail_because("%s", error);
    pthread_mutex_lock(&bench.lock);
    while (!bench.scanned)
        pthread_cond_wait(&bench.changed, &bench.lock);
    pthread_mutex_unlock(&bench.lock);
}

static struct slot *await_slot(size_t turn) {
    struct slot *slot = &bench.slots[turn % bench.jobs];
    pthread_mutex_lock(&bench.lock);
    while (slot->busy)
        pthread_cond_wait(&bench.changed, &bench.lock);
    slot->busy = true;
    pthread_mutex_unlock(&bench.lock);
    return slot;
}

static void await_all(void) {
    for (size_t i = 0; i < bench.jobs; i++)
        await_slot(i)->busy = false;
}

static void submit(size_t turn, struct disk_job job) {
    struct slot *slot = await_slot(turn);
    slot->job = job;
    slot->job.memory = slot->memory;
    slot->job.done = note_done;
    slot->job.context = slot;
    if (!disk_submit(bench.disk, &slot->job))
        fail_because("the disk's queue is full");
}

static void run_jobs(enum disk_operation operation) {
    for (size_t i = 0; i < bench.values; i++)
        submit(i, (struct disk_job){.operation = operation,
                                    .key = {.id = i + 1, .kind = 1},
                                    .parts = bench.parts,
                                    .part_count = bench.part_count,
                                    .read_parts = bench.part_count,
                                    .capacity = bench.value_bytes});
    if (operation == DISK_WRITE)
        submit(bench.values, (struct disk_job){.operation = DISK_SYNC});
    await_all();
}

static double gb_per_second(double seconds) {
    return 1e-9 * (double)bench.value_bytes * (double)bench.values / seconds;
}

/* The same bytes through a plain file: how fast the device is today. */
static void time_file(double *write_speed, double *read_speed) {
    char path[PATH_BYTES];
    char *memory = touched_memory(MIB);
    size_t calls = bench.value_bytes * bench.values / MIB;
    snprintf(path, sizeof path, "%s/plain", bench.options.directory);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    double begin = clock_seconds();
    for (size_t i = 0; i < calls; i++)
        if (pwrite(file, memory, MIB, (off_t)(i * MIB)) != MIB)
            fail(path);
    if (fdatasync(file) < 0)
        fail(path);
    *write_speed = gb_per_second(clock_seconds() - begin);
    disk_folder_drop_cache(bench.options.directory);
    begin = clock_seconds();
    for (size_t i = 0; i < calls; i++)
        if (pread(file, memory, MIB, (off_t)(i * MIB)) != MIB)
            fail(path);
    *read_speed = gb_per_second(clock_seconds() - begin);
    close(file);
    unlink(path);
    free(memory);
}

static void print(const char *what, double speed, double of_file) {
    json_begin("disk");
    json_string("what", what);
    json_string("key", bench.options.key ? "yes" : "no");
    json_number("gb_per_second", speed);
    json_number("of_file", of_file);
    json_end();
}

static void measure(void) {
    double file_write, file_read, begin;
    open_disk();
    time_file(&file_write, &file_read);
    print("file write", file_write, 1);
    print("file read", file_read, 1);
    begin = clock_seconds();
    run_jobs(DISK_WRITE);
    double speed = gb_per_second(clock_seconds() - begin);
    print("write", speed, speed / file_write);
    disk_close(bench.disk);
    disk_folder_drop_cache(bench.options.directory);
    begin = clock_seconds();
    open_disk();
    speed = gb_per_second(clock_seconds() - begin);
    print("scan", speed, speed / file_read);
    disk_folder_drop_cache(bench.options.directory);
    begin = clock_seconds();
    run_jobs(DISK_READ);
    speed = gb_per_second(clock_seconds() - begin);
    print("read", speed, speed / file_read);
    begin = clock_seconds();
    run_jobs(DISK_READ);
    speed = gb_per_second(clock_seconds() - begin);
    print("read again", speed, speed / file_read);
    disk_close(bench.disk);
}

int main(int argc, char **argv) {
    static const uint8_t key[DISK_KEY_BYTES] = {1};
    struct argument arguments[] = {{"--directory", "/tmp/kvq-bench-disk", NULL},
                                   {"--mib", "1024", NULL},
                                   {"--parts", "65", NULL},
                                   {"--part-kib", "52", NULL},
                                   {"--key", "no", NULL},
                                   {"--jobs", "4", NULL}};
    (void)argc;
    arguments_parse_alone(argv, arguments, 6);
    size_t part_bytes = (size_t)argument_number(&arguments[3], 64 << 10) << 10;
    char *part = touched_memory(part_bytes);
    bench.part_count = argument_number(&arguments[2], DISK_PARTS_MAX);
    bench.jobs = argument_number(&arguments[5], JOBS_MAX);
    bench.value_bytes = part_bytes * bench.part_count;
    bench.values = ((size_t)argument_number(&arguments[1], 1 << 20) * MIB) / bench.value_bytes;
    for (size_t i = 0; i < bench.part_count; i++)
        bench.parts[i] = (struct disk_part){part, part_bytes};
    for (size_t i = 0; i < bench.jobs; i++)
        bench.slots[i].memory = (uint8_t *)touched_memory(bench.value_bytes);
    bench.options = (struct disk_options){.directory = arguments[0].value,
                                          .limit_bytes = UINT64_C(1) << 40,
                                          .segment_bytes = 64 * MIB,
                                          .queue_bytes = UINT64_MAX,
                                          .key = strcmp(arguments[4].value, "no") ? key : NULL,
                                          .on_scanned = note_scanned};
    measure();
    disk_folder_remove(bench.options.directory);
    return EXIT_SUCCESS;
}
