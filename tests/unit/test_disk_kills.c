/* The disk after kill -9 at any moment, over and over in one directory: every job that was done is
 * there. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/test_disk_support.h"

enum { KEYS = 24, KILLS = 60, BYTES_MAX = 24000, LIFE_US_MAX = 30000, JOBS_LEAST = 10 };

/* What a key has: a value's number, or 0 for none; between the two a job was under way. */
struct key_state {
    volatile uint64_t done, begun;
};

static struct {
    struct key_state keys[KEYS];
    volatile uint64_t next, jobs;
} * shared;

static struct disk_key key_of(uint64_t index) {
    return (struct disk_key){.id = index + 1, .kind = SESSION};
}

/* A value's length follows from its number, so that records of all sizes lie side by side. */
static size_t bytes_of(uint64_t number) {
    return 1 + number * UINT64_C(2654435761) % BYTES_MAX;
}

static void run_random_job(void) {
    uint64_t number = ++shared->next, index = (uint64_t)rand() % KEYS;
    struct key_state *key = &shared->keys[index];
    bool deletes = rand() % 4 == 0;
    key->begun = deletes ? 0 : number;
    enum disk_status status =
        deletes ? delete_value(key_of(index))
                : try_write(key_of(index), number, bytes_of(number), rand() % 8 == 0);
    if (status != DISK_OK)
        _exit(1);
    key->done = key->begun;
    shared->jobs++;
}

static void live(unsigned seed) {
    srand(seed);
    if (!try_open())
        _exit(1);
    for (;;)
        run_random_job();
}

static void live_and_die(unsigned seed) {
    pid_t child = fork();
    int status;
    ck_assert_int_ge(child, 0);
    if (child == 0)
        live(seed);
    do
        usleep((useconds_t)rand() % LIFE_US_MAX);
    while (shared->jobs < JOBS_LEAST * seed); /* on a slow machine, too */
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "the disk refused a job");
}

static bool has(uint64_t index, uint64_t number) {
    static uint8_t memory[BYTES_MAX + 1], expected[BYTES_MAX];
    size_t count;
    enum disk_status status = read_bytes(key_of(index), memory, sizeof memory, &count);
    if (status == DISK_MISS)
        return number == 0;
    ck_assert_int_eq(status, DISK_OK);
    fill(expected, bytes_of(number), number);
    return number && count == bytes_of(number) && memcmp(memory, expected, count) == 0;
}

/* What was under way at the end may have been done or not; now it is known. */
static void check(void) {
    open_disk();
    for (uint64_t i = 0; i < KEYS; i++) {
        struct key_state *key = &shared->keys[i];
        if (!has(i, key->done)) {
            ck_assert_msg(has(i, key->begun), "key %d is neither what it was nor what it became",
                          (int)i);
            key->done = key->begun;
        }
        key->begun = key->done;
    }
    ck_assert_uint_eq(stats_now().scan_damaged + stats_now().scan_unknown, 0);
    close_disk();
}

static void run_kills(const uint8_t *key) {
    make_directory();
    options.key = key;
    options.limit_bytes = 1 << 20;
    options.segment_bytes = 64 << 10;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    for (unsigned i = 0; i < KILLS; i++) {
        live_and_die(i);
        check();
    }
    munmap(shared, sizeof *shared);
    remove_directory();
}

START_TEST(whatever_was_done_is_there_after_any_kill) {
    run_kills(NULL);
}
END_TEST

START_TEST(whatever_was_done_is_there_after_any_kill_with_a_key) {
    run_kills(secret);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("disk kills");
    TCase *cases = tcase_create("kills");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, whatever_was_done_is_there_after_any_kill);
    tcase_add_test(cases, whatever_was_done_is_there_after_any_kill_with_a_key);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
