/* Random programs of operations on a store, checked step by step against a simple reference; one
 * that fails is reduced to a few steps and printed.
 *
 * usage: model_check [STEPS [SEED [print]]]
 *
 * SEED is of the first program; each has PROGRAM_STEPS. With `print` all of them are printed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/player.h"

enum { PROGRAM_STEPS = 1000, PROGRAM_SECONDS_MAX = 900, SHRINK_SECONDS = 120 };

struct program {
    struct world world;
    struct step *steps;
    size_t count;
};

static struct program program_of(uint64_t seed, size_t count) {
    struct program program = {world_of(seed), malloc(count * sizeof(struct step)), count};
    for (size_t i = 0; i < count; i++)
        program.steps[i] = step_of(seed, i);
    return program;
}

enum { VERBOSE = -1 };

/* Whether the program runs to its end, in a process of its own; what that says on stderr goes to
 * the file `said`. */
static bool holds(const struct program *program, int said) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (said != VERBOSE && (ftruncate(said, 0) < 0 || lseek(said, 0, SEEK_SET) < 0 ||
                                dup2(said, STDERR_FILENO) < 0))
            _Exit(2);
        alarm(PROGRAM_SECONDS_MAX);
        play(&program->world, program->steps, program->count, said == VERBOSE);
        exit(0); /* so that a sanitizer looks for leaks */
    }
    bool held = child > 0 && waitpid(child, &status, 0) == child && status == 0;
    if (!held && said != VERBOSE && WIFSIGNALED(status))
        dprintf(said, "ended by signal %d\n", WTERMSIG(status));
    play_clean_up(child);
    return held;
}

/* Without the steps from `from` on, as many as `count`. */
static struct program without(const struct program *program, size_t from, size_t count) {
    size_t end = from + count < program->count ? from + count : program->count;
    struct program shorter = {program->world, malloc(program->count * sizeof(struct step)),
                              program->count - (end - from)};
    memcpy(shorter.steps, program->steps, from * sizeof(struct step));
    memcpy(shorter.steps + from, program->steps + end,
           (program->count - end) * sizeof(struct step));
    return shorter;
}

/* Takes out what the failure does not need, in stretches that become shorter and shorter. */
static void shrink(struct program *program, int said) {
    time_t end = time(NULL) + SHRINK_SECONDS;
    for (size_t stretch = program->count / 2; stretch > 0; stretch /= 2)
        for (size_t from = program->count; from > 0 && time(NULL) < end;) {
            from = from > stretch ? from - stretch : 0;
            struct program shorter = without(program, from, stretch);
            if (holds(&shorter, said)) {
                free(shorter.steps);
                continue;
            }
            free(program->steps);
            *program = shorter;
            from = from < program->count ? from : program->count;
        }
}

/* What it said last: once it is gone it may not fail again. */
static void print_end_of(int said) {
    char text[2000];
    off_t bytes = lseek(said, 0, SEEK_END);
    off_t from = bytes > (off_t)sizeof text ? bytes - (off_t)sizeof text : 0;
    ssize_t count = pread(said, text, sizeof text, from);
    printf("%.*s", count > 0 ? (int)count : 0, text);
}

static void report(struct program *program, int said) {
    unsigned long long seed = program->world.seed;
    print_end_of(said);
    printf("seed %llu fails; its steps are being taken out\n", seed);
    shrink(program, said);
    printf("%zu steps are enough:\n", program->count);
    for (int i = 0; i < 10 && holds(program, VERBOSE); i++)
        printf("(passed this time)\n");
    print_end_of(said);
    printf("seed %llu\n", seed);
}

int main(int argc, char **argv) {
    size_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    bool print = argc > 3;
    int said = memfd_create("said", MFD_CLOEXEC);
    for (uint64_t seed = first; steps > 0; seed++) {
        size_t count = steps < PROGRAM_STEPS ? steps : PROGRAM_STEPS;
        struct program program = program_of(seed, count);
        if (!holds(&program, print ? VERBOSE : said)) {
            report(&program, said);
            free(program.steps);
            return EXIT_FAILURE;
        }
        free(program.steps);
        steps -= count;
    }
    printf("all steps did what the reference does\n");
    return EXIT_SUCCESS;
}
