/* Speed of the page codec on one core, beside copies of the same values in the same rounds.
 *
 *   bench_codec [--placement memory|cache|repeated] [--pages FILE] [--shape 8x128] [--dtype f16]
 *               [--levels exact,fast8,0,1,2,3,4,5] [--rounds 5] [--mib 128]
 *               [--sequence-pages 8] [--core 0]
 *
 * A sample is the time on the processor of one pass over all pages. A round takes one sample of a
 * copy with memcpy, of one with streaming stores, and of everything at every level, one after
 * another: a ratio is of neighbours in time. The first round is a rehearsal and not counted.
 *
 *   memory    --mib of values, which must be several times the last cache: when a pass begins,
 *             none of its first pages is in a cache, since the passes before walked over all
 *             others; no page comes twice. Decoders store past the caches.
 *   cache     K and V of one page: source and target fit the second or last cache.
 *   repeated  like memory, but of four pages over and over: what branch predictors gain by
 *             knowing the values.
 *
 * Pages are of 128 tokens, of --pages (16-bit values [tokens, heads, head_dim], K and V of a page
 * in turn) or as kv_values.h makes them. Prints a line of JSON for the copies and one for each
 * level. KVQ_CPU in the environment chooses the kernels, as dispatch.c says.
 */
#include "proto/page/kernels.h"
#include "tests/bench/arguments.h"
#include "tests/bench/codec_passes.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"
#include "tests/bench/streaming_copy.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 100, REPEATED_PAGES = 4, CACHE_SAMPLE_BYTES = 8 << 20 };

enum operation { MEMCPY, STREAMING, ENCODE, DECODE, DECODE_PAIRS, AGE, AGE_PAIRS, OPERATIONS };

static const struct {
    const char *name;
    void (*pass)(const struct codec_pass *);
} operations[OPERATIONS] = {
    {"memcpy", pass_memcpy},      {"streaming", pass_streaming}, {"encode", pass_encode},
    {"decode", pass_decode},      {"pair", pass_decode_pairs},   {"age", pass_age},
    {"age_pair", pass_age_pairs},
};

struct bench {
    const char *placement, *data;
    struct codec_pages pages;
    size_t rounds, passes; /* of a sample */
    bool wanted[CODEC_LEVELS];
    double seconds[CODEC_LEVELS][OPERATIONS][ROUNDS_MAX]; /* copies: of level 0 of the array */
};

static const char *const level_names[CODEC_LEVELS] = {"exact", "fast8", "0", "1",
                                                      "2",     "3",     "4", "5"};

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void sample(struct bench *bench, size_t level, enum operation operation, size_t round) {
    struct codec_pass pass = {.pages = &bench->pages,
                              .level = (int)level + PAGE_LEVEL_MIN,
                              .streaming = strcmp(bench->placement, "cache") != 0};
    double start = seconds_now();
    for (size_t i = 0; i < bench->passes; i++)
        operations[operation].pass(&pass);
    if (round > 0)
        bench->seconds[level][operation][round - 1] = seconds_now() - start;
}

static bool measured(size_t level, enum operation operation) {
    int number = (int)level + PAGE_LEVEL_MIN;
    return (operation != AGE && operation != AGE_PAIRS) || (number >= 0 && number < PAGE_LEVEL_MAX);
}

static void check_exact(const struct bench *bench, size_t level) {
    if (level == 0 &&
        memcmp(bench->pages.source, bench->pages.target, codec_pages_bytes(&bench->pages)) != 0)
        fail_because("exact is not exact");
}

static void play_round(struct bench *bench, size_t round) {
    for (int operation = MEMCPY; operation <= (STREAMING_COPY ? STREAMING : MEMCPY); operation++)
        sample(bench, 0, (enum operation)operation, round);
    for (size_t level = 0; level < CODEC_LEVELS; level++)
        for (int operation = ENCODE; bench->wanted[level] && operation < OPERATIONS; operation++) {
            if (measured(level, (enum operation)operation))
                sample(bench, level, (enum operation)operation, round);
            if (operation == DECODE || operation == DECODE_PAIRS)
                check_exact(bench, level);
        }
}

/* ---- what is printed ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t count) {
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_size);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* The speed as a part of memcpy's: the median over rounds. */
static double of_memcpy(const struct bench *bench, const double *seconds) {
    double ratios[ROUNDS_MAX];
    for (size_t i = 0; i < bench->rounds; i++)
        ratios[i] = bench->seconds[0][MEMCPY][i] / seconds[i];
    return median(ratios, bench->rounds);
}

static void print_speed(const struct bench *bench, size_t level, enum operation operation) {
    const double *seconds = bench->seconds[level][operation];
    double bytes = (double)(bench->passes * codec_pages_bytes(&bench->pages));
    const char *name = operations[operation].name;
    char key[64];
    snprintf(key, sizeof key, "%s_gb_per_second", name);
    json_number(key, bytes / median(seconds, bench->rounds) / 1e9);
    snprintf(key, sizeof key, "%s_of_memcpy", name);
    json_number(key, of_memcpy(bench, seconds));
    snprintf(key, sizeof key, "%s_seconds", name);
    json_numbers(key, seconds, bench->rounds);
}

static void print_begin(const struct bench *bench, const char *kind) {
    json_begin(kind);
    json_string("kernels", page_kernels()->name);
    json_string("placement", bench->placement);
    json_string("data", bench->data);
    json_string("dtype", bench->pages.shape.dtype == PAGE_F16 ? "f16" : "bf16");
    json_number("heads", bench->pages.shape.heads);
    json_number("head_dim", bench->pages.shape.head_dim);
    json_number("pages", (double)bench->pages.count);
    json_number("bytes", (double)(bench->passes * codec_pages_bytes(&bench->pages)));
}

static void print_copies(const struct bench *bench) {
    print_begin(bench, "codec copies");
    print_speed(bench, 0, MEMCPY);
    if (STREAMING_COPY)
        print_speed(bench, 0, STREAMING);
    json_end();
}

static double bits_per_value(const struct codec_pages *pages, size_t level) {
    size_t bytes = 0;
    for (size_t p = 0; p < pages->count; p++)
        bytes += pages->coded[level].page[p].bytes;
    return 16.0 * (double)bytes / (double)codec_pages_bytes(pages);
}

static void print_level(const struct bench *bench, size_t level) {
    print_begin(bench, "codec");
    json_number("level", (int)level + PAGE_LEVEL_MIN);
    json_number("bits_per_value", bits_per_value(&bench->pages, level));
    json_number("memcpy_gb_per_second", (double)(bench->passes * codec_pages_bytes(&bench->pages)) /
                                            median(bench->seconds[0][MEMCPY], bench->rounds) / 1e9);
    for (int operation = ENCODE; operation < OPERATIONS; operation++)
        if (measured(level, (enum operation)operation))
            print_speed(bench, level, (enum operation)operation);
    json_end();
}

/* ---- the command line ---- */

enum { PLACEMENT, PAGES, SHAPE, DTYPE, LEVELS, ROUNDS, MIB, SEQUENCE_PAGES, CORE, ARGUMENTS };

static struct argument arguments[ARGUMENTS] = {
    {"--placement", "memory", NULL},
    {"--pages", "", NULL},
    {"--shape", "8x128", NULL},
    {"--dtype", "f16", NULL},
    {"--levels", "exact,fast8,0,1,2,3,4,5", NULL},
    {"--rounds", "5", NULL},
    {"--mib", "128", NULL},
    {"--sequence-pages", "8", NULL},
    {"--core", "0", NULL},
};

static void pin_to(unsigned core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores))
        fail("sched_setaffinity");
}

static struct page_shape shape_asked(void) {
    struct page_shape shape = {.tokens = PAGE_TOKENS_MAX,
                               .dtype =
                                   strcmp(arguments[DTYPE].value, "bf16") ? PAGE_F16 : PAGE_BF16};
    int end = 0;
    if (sscanf(arguments[SHAPE].value, "%ux%u%n", &shape.heads, &shape.head_dim, &end) != 2 ||
        arguments[SHAPE].value[end] != '\0' ||
        page_tokens(shape.heads, shape.head_dim, shape.head_dim) != PAGE_TOKENS_MAX)
        fail_because("--shape is HEADSxHEAD_DIM of pages of 128 tokens");
    return shape;
}

static void choose_levels(struct bench *bench) {
    char list[128];
    const char *words[CODEC_LEVELS];
    snprintf(list, sizeof list, "%s", arguments[LEVELS].value);
    size_t count = argument_words(list, words, CODEC_LEVELS);
    for (size_t i = 0; i < count; i++)
        for (size_t level = 0; level < CODEC_LEVELS; level++)
            bench->wanted[level] |= strcmp(words[i], level_names[level]) == 0;
}

static void set_up(struct bench *bench) {
    const char *placement = arguments[PLACEMENT].value, *file = arguments[PAGES].value;
    bool cache = strcmp(placement, "cache") == 0, repeated = strcmp(placement, "repeated") == 0;
    if (!cache && !repeated && strcmp(placement, "memory") != 0)
        fail_because("--placement is memory, cache or repeated");
    struct codec_data data = {.file = *file ? file : NULL,
                              .shape = shape_asked(),
                              .sequence_pages =
                                  argument_number(&arguments[SEQUENCE_PAGES], 1 << 20),
                              .distinct = repeated ? REPEATED_PAGES : 0};
    if (!*file && data.shape.dtype != PAGE_F16)
        fail_because("values of --dtype bf16 come from --pages");
    bench->placement = placement;
    bench->data = *file ? "real" : "synthetic";
    bench->rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX);
    bench->pages =
        codec_pages_new(&data, cache ? 0 : (size_t)argument_number(&arguments[MIB], 1 << 14) << 20);
    bench->passes = cache ? CACHE_SAMPLE_BYTES / codec_pages_bytes(&bench->pages) : 1;
}

int main(int argc, char **argv) {
    static struct bench bench;
    (void)argc;
    arguments_parse_alone(argv, arguments, ARGUMENTS);
    pin_to((unsigned)strtoul(arguments[CORE].value, NULL, 10));
    choose_levels(&bench);
    set_up(&bench);
    for (size_t round = 0; round <= bench.rounds; round++)
        play_round(&bench, round);
    print_copies(&bench);
    for (size_t level = 0; level < CODEC_LEVELS; level++)
        if (bench.wanted[level])
            print_level(&bench, level);
    codec_pages_free(&bench.pages);
    return 0;
}
