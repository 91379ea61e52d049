/* Speed of recall's exact index on one core, beside a plain summing read of the same vectors.
 *
 *   bench_recall [--rows 1000000] [--dim 384] [--k 10] [--metric cosine|inner-product]
 *                [--rounds 7] [--core 0]
 *
 * A sample is the time on the processor of one pass over all rows, in batches as the store keeps
 * them. A round reads the float32 vectors, searches them, reads the float16 ones and searches
 * those, one after another: a ratio is of neighbours in time, and the median over rounds is told.
 * The first round is a rehearsal, in which the summing read chooses how far ahead it prefetches.
 * Prints a line of JSON for each type. KVQ_CPU in the environment chooses the kernels, as
 * dispatch.c says; the summing read always is the processor's best.
 */
#include "daemon/recall/flat.h"
#include "daemon/recall/kernels.h"
#include "proto/page/convert.h"
#include "tests/bench/arguments.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"
#include "tests/bench/summing_read.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ROUNDS_MAX = 100, K_MOST = 4096, BATCH_BYTES = 16 << 20, READ_STEP_BYTES = 512 };
enum { MATRICES = 2 };

struct matrix {
    struct vectors_format format;
    void *vectors;
    size_t rows, bytes; /* bytes: of the vectors, to a whole step of the summing read */
    float *inverse_lengths;
    size_t ahead_bytes; /* of the summing read */
    double read_seconds[ROUNDS_MAX], search_seconds[ROUNDS_MAX];
};

struct bench {
    struct matrix matrices[MATRICES];
    size_t rounds, k;
    float unit[VECTORS_DIM_MOST];
};

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double read_once(const struct matrix *matrix, size_t ahead_bytes) {
    static volatile uint64_t sum; /* nobody may leave the reading out */
    double start = seconds_now();
    sum = summing_read(matrix->vectors, matrix->bytes, ahead_bytes);
    (void)sum;
    return seconds_now() - start;
}

static double search_once(const struct bench *bench, const struct matrix *matrix) {
    struct kvq_retriever_hit hits[K_MOST];
    struct nearest nearest = {.hits = hits, .k = bench->k, .least = -INFINITY};
    struct flat_query query = {.format = &matrix->format, .unit = bench->unit};
    size_t row_bytes = vectors_row_bytes(&matrix->format), most = BATCH_BYTES / row_bytes;
    double start = seconds_now();
    for (size_t first = 0; first < matrix->rows; first += most) {
        size_t count = matrix->rows - first < most ? matrix->rows - first : most;
        struct flat_rows rows = {.first_id = first,
                                 .vectors = (const char *)matrix->vectors + first * row_bytes,
                                 .count = count,
                                 .inverse_lengths = matrix->inverse_lengths + first};
        flat_scan(&query, &rows, 0, &nearest);
    }
    nearest_sort(&nearest);
    return seconds_now() - start;
}

static void choose_prefetch(struct matrix *matrix) {
    static const size_t choices[] = {0, 1024, 2048, 4096, 8192};
    double best = INFINITY;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        double seconds = read_once(matrix, choices[i]), again = read_once(matrix, choices[i]);
        seconds = seconds < again ? seconds : again;
        if (seconds < best) {
            best = seconds;
            matrix->ahead_bytes = choices[i];
        }
    }
}

static void rehearse(struct bench *bench) {
    for (size_t m = 0; m < MATRICES; m++) {
        choose_prefetch(&bench->matrices[m]);
        search_once(bench, &bench->matrices[m]);
    }
}

static void play_round(struct bench *bench, size_t round) {
    for (size_t m = 0; m < MATRICES; m++) {
        struct matrix *matrix = &bench->matrices[m];
        matrix->read_seconds[round] = read_once(matrix, matrix->ahead_bytes);
        matrix->search_seconds[round] = search_once(bench, matrix);
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

static double median_ratio(const double *of, const double *over, size_t count) {
    double ratios[ROUNDS_MAX];
    for (size_t i = 0; i < count; i++)
        ratios[i] = of[i] / over[i];
    return median(ratios, count);
}

static void print_matrix(const struct bench *bench, size_t m) {
    const struct matrix *matrix = &bench->matrices[m], *wide = &bench->matrices[0];
    double seconds = median(matrix->search_seconds, bench->rounds);
    json_begin("recall flat");
    json_string("kernels", recall_kernels()->name);
    json_string("dtype", m == 0 ? "f32" : "f16");
    json_string("metric",
                matrix->format.metric == KVQ_RETRIEVER_COSINE ? "cosine" : "inner-product");
    json_number("rows", (double)matrix->rows);
    json_number("dim", matrix->format.dim);
    json_number("k", (double)bench->k);
    json_number("search_gb_per_second", (double)matrix->bytes / seconds / 1e9);
    json_number("read_gb_per_second",
                (double)matrix->bytes / median(matrix->read_seconds, bench->rounds) / 1e9);
    json_number("read_ahead_bytes", (double)matrix->ahead_bytes);
    json_number("search_of_read",
                median_ratio(matrix->read_seconds, matrix->search_seconds, bench->rounds));
    json_number("million_rows_per_second", (double)matrix->rows / seconds / 1e6);
    json_number("rows_per_second_of_f32",
                median_ratio(wide->search_seconds, matrix->search_seconds, bench->rounds));
    json_numbers("search_seconds", matrix->search_seconds, bench->rounds);
    json_numbers("read_seconds", matrix->read_seconds, bench->rounds);
    json_end();
}

/* ---- the command line ---- */

enum { ROWS, DIM, K, METRIC, ROUNDS, CORE, ARGUMENTS };

static struct argument arguments[ARGUMENTS] = {
    {"--rows", "1000000", NULL},  {"--dim", "384", NULL},  {"--k", "10", NULL},
    {"--metric", "cosine", NULL}, {"--rounds", "7", NULL}, {"--core", "0", NULL},
};

static void pin_to(unsigned core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores))
        fail("sched_setaffinity");
}

/* As the pool has it: shared memory that asks for huge pages. */
static void *memory_of(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 0, bytes);
    return memory;
}

static float random_value(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (float)(int32_t)*state * 0x1p-31f;
}

static void fill(struct matrix *matrix, uint64_t *random) {
    size_t values = matrix->rows * matrix->format.dim;
    for (size_t i = 0; i < values; i++) {
        float value = random_value(random);
        if (matrix->format.dtype == KVQ_RETRIEVER_F32)
            ((float *)matrix->vectors)[i] = value;
        else
            ((uint16_t *)matrix->vectors)[i] = float_to_half(value);
    }
}

static void matrix_init(struct matrix *matrix, enum kvq_retriever_dtype dtype, uint64_t *random) {
    size_t rows = argument_number(&arguments[ROWS], 1 << 30);
    matrix->format = (struct vectors_format){
        .dim = argument_number(&arguments[DIM], VECTORS_DIM_MOST),
        .dtype = dtype,
        .metric = strcmp(arguments[METRIC].value, "cosine") == 0 ? KVQ_RETRIEVER_COSINE
                                                                 : KVQ_RETRIEVER_INNER_PRODUCT,
    };
    matrix->rows = rows;
    size_t bytes = rows * vectors_row_bytes(&matrix->format);
    matrix->bytes = (bytes + READ_STEP_BYTES - 1) / READ_STEP_BYTES * READ_STEP_BYTES;
    matrix->vectors = memory_of(matrix->bytes);
    matrix->inverse_lengths = memory_of(rows * sizeof *matrix->inverse_lengths);
    fill(matrix, random);
    vectors_inverse_lengths(&matrix->format, matrix->vectors, rows, matrix->inverse_lengths);
}

int main(int argc, char **argv) {
    static struct bench bench;
    uint64_t random = 88172645463325252u;
    (void)argc;
    arguments_parse_alone(argv, arguments, ARGUMENTS);
    pin_to((unsigned)strtoul(arguments[CORE].value, NULL, 10));
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX);
    bench.k = argument_number(&arguments[K], K_MOST);
    for (size_t m = 0; m < MATRICES; m++)
        matrix_init(&bench.matrices[m], m == 0 ? KVQ_RETRIEVER_F32 : KVQ_RETRIEVER_F16, &random);
    for (size_t i = 0; i < bench.matrices[0].format.dim; i++)
        bench.unit[i] = random_value(&random);
    vectors_prepare_query(&bench.matrices[0].format, bench.unit, bench.unit);
    rehearse(&bench);
    for (size_t round = 0; round < bench.rounds; round++)
        play_round(&bench, round);
    for (size_t m = 0; m < MATRICES; m++)
        print_matrix(&bench, m);
    return 0;
}
