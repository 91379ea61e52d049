/* Flips bits of the disk's files, overwrites, cuts and misplaces parts of them, and reads all that
 * was there: each value must come as it was written last, or not at all, or said to be doubtful.
 *
 * usage: flip_check [TRIALS [SEED [plain|encrypted]]]
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/store/disk/disk.h"
#include "tests/faults/values.h"

enum { CHUNK = 1, SESSION = 2 };
enum { CHUNKS = 12, SESSIONS = 6, KEYS = CHUNKS + SESSIONS, VERSIONS = 5, VALUE_MAX = 6000 };
enum { FILES_MAX = 64, SEGMENT_BYTES = 64 << 10, LIMIT_BYTES = 8 << 20, PATH_BYTES = 400 };

struct file {
    char name[64];
    uint8_t *bytes;
    size_t count;
};

static char directory[64];
static struct disk *disk;
static struct disk_options options;
static uint8_t secret[DISK_KEY_BYTES];
static struct file files[FILES_MAX]; /* as they were when all was well */
static size_t file_count;
static uint64_t random_state;
static char done_to_it[200]; /* in words */
/* What the last scan said of each key. */
static bool doubtful[KEYS], dropped[KEYS];
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool scanned;
} signals = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static uint64_t draw(uint64_t below) {
    random_state = values_mix(random_state);
    return random_state % below;
}

static void expect(bool holds, const char *what, uint64_t number) {
    if (holds)
        return;
    fprintf(stderr, "%s: %s (%llu)\n", done_to_it, what, (unsigned long long)number);
    _Exit(1);
}

/* --- the disk --- */

static struct disk_key key_of(unsigned number) {
    return number < CHUNKS ? (struct disk_key){.id = number + 1, .kind = CHUNK}
                           : (struct disk_key){.id = number - CHUNKS + 1, .kind = SESSION};
}

static unsigned number_of(struct disk_key key) {
    return (unsigned)(key.id - 1) + (key.kind == SESSION ? (unsigned)CHUNKS : 0);
}

static void note_found(void *context, const struct disk_found *found) {
    (void)context;
    unsigned number = number_of(found->key);
    expect(number < KEYS, "a key that was never written", found->key.id);
    doubtful[number] = found->doubtful;
}

static void note_scanned(void *context) {
    (void)context;
    pthread_mutex_lock(&signals.lock);
    signals.scanned = true;
    pthread_cond_broadcast(&signals.changed);
    pthread_mutex_unlock(&signals.lock);
}

static void open_disk(void) {
    char error[256];
    memset(doubtful, 0, sizeof doubtful);
    signals.scanned = false;
    disk = disk_open(&options, error, sizeof error);
    expect(disk != NULL, error, 0);
    pthread_mutex_lock(&signals.lock);
    while (!signals.scanned)
        pthread_cond_wait(&signals.changed, &signals.lock);
    pthread_mutex_unlock(&signals.lock);
}

static void note_done(struct disk_job *job) {
    pthread_mutex_lock(&signals.lock);
    *(bool *)job->context = true;
    pthread_cond_broadcast(&signals.changed);
    pthread_mutex_unlock(&signals.lock);
}

static enum disk_status run(struct disk_job *job) {
    bool done = false;
    job->done = note_done;
    job->context = &done;
    expect(disk_submit(disk, job), "a job was refused", 0);
    pthread_mutex_lock(&signals.lock);
    while (!done)
        pthread_cond_wait(&signals.changed, &signals.lock);
    pthread_mutex_unlock(&signals.lock);
    return job->status;
}

/* --- values: a key's version says its length and bytes --- */

static size_t make_value(unsigned number, uint64_t version, uint8_t *bytes) {
    uint64_t seed = values_mix(version * KEYS + number);
    size_t count = 1 + seed % VALUE_MAX;
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)values_mix(seed + i);
    return count;
}

/* Chunks are written once, sessions several times, every third of which is deleted at the end. */
static uint64_t last_version(unsigned number) {
    if (number < CHUNKS)
        return 1;
    return number % 3 == 0 ? 0 : VERSIONS;
}

static void write_version(unsigned number, uint64_t version) {
    uint8_t bytes[VALUE_MAX];
    size_t count = make_value(number, version, bytes);
    struct disk_part parts[2] = {{bytes, count / 2}, {bytes + count / 2, count - count / 2}};
    struct disk_job job = {.operation = DISK_WRITE,
                           .key = key_of(number),
                           .metadata = {.tenant = "default",
                                        .tenant_bytes = 7,
                                        .model = "model",
                                        .model_bytes = 5,
                                        .session = "a session",
                                        .session_bytes = 9,
                                        .version = version},
                           .parts = parts,
                           .part_count = 2};
    expect(run(&job) == DISK_OK, "a write failed", number);
}

static void write_all(void) {
    open_disk();
    for (uint64_t version = 1; version <= VERSIONS; version++)
        for (unsigned number = 0; number < KEYS; number++)
            if (number >= CHUNKS || number % VERSIONS + 1 == version)
                write_version(number, number < CHUNKS ? 1 : version);
    for (unsigned number = CHUNKS; number < KEYS; number++)
        if (last_version(number) == 0)
            expect(run(&(struct disk_job){.operation = DISK_DELETE, .key = key_of(number)}) ==
                       DISK_OK,
                   "a delete failed", number);
    disk_close(disk);
}

/* Whether it came as it was written last; what came otherwise ends the test. */
static bool check_value(unsigned number) {
    uint8_t memory[VALUE_MAX], expected[VALUE_MAX];
    char names[3 * DISK_NAME_BYTES_MAX];
    struct disk_job job = {.operation = DISK_READ,
                           .key = key_of(number),
                           .read_parts = DISK_PARTS_MAX,
                           .memory = memory,
                           .capacity = sizeof memory,
                           .names = names};
    enum disk_status status = run(&job);
    if (status != DISK_OK) {
        expect(status == DISK_MISS || status == DISK_DAMAGED, "a read gave another status", status);
        return last_version(number) == 0;
    }
    expect(!dropped[number], "a value that was deleted", number);
    uint64_t version = job.metadata.version;
    expect(version >= 1 && version <= VERSIONS, "a version that never was", version);
    size_t count = make_value(number, version, expected);
    expect(job.bytes == count && memcmp(memory, expected, count) == 0,
           "bytes that were never written", number);
    expect(version == last_version(number) || doubtful[number],
           "an older value, and no word of doubt", number);
    return version == last_version(number);
}

/* --- the files --- */

static void path_of(const char *name, char *path) {
    snprintf(path, PATH_BYTES, "%s/%s", directory, name);
}

static void write_file(const char *name, const uint8_t *bytes, size_t count) {
    char path[PATH_BYTES];
    path_of(name, path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    expect(file >= 0 && write(file, bytes, count) == (ssize_t)count, "a file", 0);
    close(file);
}

static void each_entry(void (*do_it)(const char *name, const char *path)) {
    char path[PATH_BYTES];
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        path_of(entries[i]->d_name, path);
        if (entries[i]->d_name[0] != '.')
            do_it(entries[i]->d_name, path);
        free(entries[i]);
    }
    free(entries);
}

static void remember(const char *name, const char *path) {
    struct stat status;
    struct file *file = &files[file_count++];
    expect(file_count <= FILES_MAX && stat(path, &status) == 0, "too many files", file_count);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->count = (size_t)status.st_size;
    file->bytes = malloc(file->count + 1);
    int opened = open(path, O_RDONLY);
    expect(read(opened, file->bytes, file->count) == (ssize_t)file->count, "a file", 0);
    close(opened);
}

static void remove_entry(const char *name, const char *path) {
    (void)name;
    unlink(path);
}

static void restore(void) {
    each_entry(remove_entry);
    for (size_t i = 0; i < file_count; i++)
        write_file(files[i].name, files[i].bytes, files[i].count);
}

enum { FLIP, SET, ZEROS, SWAP, CUT };

/* What flips and the like make of a file's bytes, and how many of them are left. */
static size_t damage_bytes(unsigned kind, uint8_t *bytes, size_t count) {
    size_t at = draw(count), length = 1 + draw(count - at < 4096 ? count - at : 4096);
    size_t from = draw(count - length + 1);
    snprintf(done_to_it + strlen(done_to_it), sizeof done_to_it - strlen(done_to_it),
             ", damage %u at %zu, %zu bytes", kind, at, length);
    switch (kind) {
    case FLIP:
        bytes[at] ^= (uint8_t)(1u << draw(8));
        return count;
    case SET:
        bytes[at] = (uint8_t)draw(256);
        return count;
    case ZEROS:
        memset(bytes + at, 0, length);
        return count;
    case SWAP: /* a write that went elsewhere */
        memmove(bytes + at, bytes + from, length);
        return count;
    default:
        return at;
    }
}

static void damage(uint64_t trial) {
    static const unsigned kinds[] = {FLIP, FLIP, FLIP, FLIP, SET, ZEROS, SWAP, CUT};
    const struct file *file = &files[draw(file_count)];
    unsigned kind = kinds[draw(sizeof kinds / sizeof *kinds)];
    snprintf(done_to_it, sizeof done_to_it, "trial %llu, %s", (unsigned long long)trial,
             file->name);
    if (file->count == 0)
        return;
    uint8_t *bytes = memcpy(malloc(file->count), file->bytes, file->count);
    size_t count = damage_bytes(kind, bytes, file->count);
    write_file(file->name, bytes, count);
    free(bytes);
}

/* --- trials --- */

static void set_up(bool encrypted) {
    snprintf(directory, sizeof directory, "%s/kvq-flips-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    expect(mkdtemp(directory) != NULL, "no directory", 0);
    for (int i = 0; i < DISK_KEY_BYTES; i++)
        secret[i] = (uint8_t)(7 * i + 1);
    options = (struct disk_options){.directory = directory,
                                    .limit_bytes = LIMIT_BYTES,
                                    .segment_bytes = SEGMENT_BYTES,
                                    .key = encrypted ? secret : NULL,
                                    .on_found = note_found,
                                    .on_scanned = note_scanned};
    log_init(LOG_LEVEL_ERROR);
    write_all();
    each_entry(remember);
}

static void tear_down(void) {
    each_entry(remove_entry);
    rmdir(directory);
    for (size_t i = 0; i < file_count; i++)
        free(files[i].bytes);
}

/* As the store does with sessions that are doubtful: they are deleted, and stay away. */
static void drop_doubtful(void) {
    for (unsigned number = CHUNKS; number < KEYS; number++) {
        if (!doubtful[number] || dropped[number])
            continue;
        struct disk_job job = {.operation = DISK_DELETE, .key = key_of(number)};
        expect(run(&job) == DISK_OK, "a delete failed", number);
        dropped[number] = true;
    }
}

/* Values that did not come. */
static unsigned read_all(void) {
    unsigned lost = 0;
    open_disk();
    for (unsigned number = 0; number < KEYS; number++)
        lost += !check_value(number);
    drop_doubtful();
    disk_close(disk);
    return lost;
}

/* The next start does not know what the first found damaged, unless it is still so. */
static unsigned read_all_twice(void) {
    memset(dropped, 0, sizeof dropped);
    unsigned lost = read_all();
    read_all();
    return lost;
}

int main(int argc, char **argv) {
    uint64_t trials = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, harmless = 0, lost = 0;
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    set_up(argc > 3 && strcmp(argv[3], "encrypted") == 0);
    expect(read_all() == 0, "values are missing without damage", 0);
    for (uint64_t trial = 0; trial < trials; trial++) {
        restore();
        damage(trial);
        unsigned missing = read_all_twice();
        harmless += missing == 0;
        lost += missing;
    }
    tear_down();
    printf("%llu trials in %zu files: %llu harmless, %llu values lost, none wrong\n",
           (unsigned long long)trials, file_count, (unsigned long long)harmless,
           (unsigned long long)lost);
    return EXIT_SUCCESS;
}
