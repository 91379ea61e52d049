/* Speed of the page codec on one core, from memory: GB/s of 16-bit data, and that of memcpy.
 *
 *   bench_codec [MIB [HEADS HEAD_DIM]]
 *
 * Pages of 128 tokens of values as kv_values.h makes them; every pass walks MIB (default 48) of
 * them, more than a cache holds. Best of five, in time on the processor. Prints a line of JSON a
 * level (json_line.h; level -2 is exact, -1 fast8). KVQ_CPU=portable in the environment measures
 * the portable kernels.
 */
#include "proto/page/kernels.h"
#include "proto/page/page.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kv_values.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 128, PASSES = 5 };
static const float MEAN_SCALE = 2;

struct bench {
    struct page_shape shape;
    struct page_strides strides;
    size_t pages, page_bytes, slot_bytes;
    uint8_t *raw, *coded, *back;
    size_t *length;
    void *workspace;
    int level;
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void fill(struct bench *bench) {
    size_t channels = (size_t)bench->shape.heads * bench->shape.head_dim;
    for (size_t p = 0; p < bench->pages; p++)
        kv_values_fill((uint16_t *)(void *)(bench->raw + p * bench->page_bytes), TOKENS, channels,
                       MEAN_SCALE, p);
}

static void copy_pass(struct bench *bench) {
    for (size_t p = 0; p < bench->pages; p++)
        memcpy(bench->back + p * bench->page_bytes, bench->raw + p * bench->page_bytes,
               bench->page_bytes);
}

static void encode_pass(struct bench *bench) {
    for (size_t p = 0; p < bench->pages; p++) {
        struct page_source source = {.shape = bench->shape,
                                     .level = bench->level,
                                     .values = bench->raw + p * bench->page_bytes,
                                     .strides = bench->strides};
        if (page_encode(&source, bench->workspace, bench->coded + p * bench->slot_bytes,
                        bench->slot_bytes, &bench->length[p], NULL) != PAGE_OK)
            fail_because("a page was refused");
    }
}

static void decode_pass(struct bench *bench) {
    for (size_t p = 0; p < bench->pages; p++) {
        struct page_target target = {.tokens = TOKENS,
                                     .dtype = PAGE_F16,
                                     .values = bench->back + p * bench->page_bytes,
                                     .strides = bench->strides};
        if (page_decode(bench->coded + p * bench->slot_bytes, bench->length[p], &target,
                        bench->workspace) != PAGE_OK)
            fail_because("a page did not decode");
    }
}

static double speed(struct bench *bench, void (*pass)(struct bench *)) {
    double best = 1e30;
    for (int i = 0; i < PASSES; i++) {
        double start = seconds();
        pass(bench);
        double took = seconds() - start;
        best = took < best ? took : best;
    }
    return (double)(bench->pages * bench->page_bytes) / best / 1e9;
}

static void print_level(struct bench *bench, double copy) {
    double encode = speed(bench, encode_pass), decode = speed(bench, decode_pass);
    size_t bytes = 0;
    for (size_t p = 0; p < bench->pages; p++)
        bytes += bench->length[p];
    json_begin("codec");
    json_string("kernels", page_kernels()->name);
    json_number("heads", bench->shape.heads);
    json_number("head_dim", bench->shape.head_dim);
    json_number("level", bench->level);
    json_number("bits_per_value",
                16.0 * (double)bytes / (double)(bench->pages * bench->page_bytes));
    json_number("encode_gb_per_second", encode);
    json_number("decode_gb_per_second", decode);
    json_number("memcpy_gb_per_second", copy);
    json_end();
}

int main(int argc, char **argv) {
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 48;
    uint32_t heads = argc > 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 3;
    uint32_t head_dim = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 64;
    struct bench bench = {
        .shape = {.tokens = TOKENS, .heads = heads, .head_dim = head_dim, .dtype = PAGE_F16},
        .strides = {.token = (size_t)heads * head_dim, .head = head_dim},
    };
    if (page_tokens(heads, head_dim, 0) != TOKENS)
        fail_because("no such page of 128 tokens");
    bench.page_bytes = (size_t)TOKENS * heads * head_dim * 2;
    bench.slot_bytes = page_bound_bytes(&bench.shape);
    bench.pages = (mib << 20) / bench.page_bytes;
    bench.raw = (uint8_t *)touched_memory(bench.pages * bench.page_bytes);
    bench.back = (uint8_t *)touched_memory(bench.pages * bench.page_bytes);
    bench.coded = (uint8_t *)touched_memory(bench.pages * bench.slot_bytes);
    bench.length = (size_t *)(void *)touched_memory(bench.pages * sizeof *bench.length);
    bench.workspace = touched_memory(PAGE_WORKSPACE_BYTES);
    fill(&bench);
    double copy = speed(&bench, copy_pass);
    for (bench.level = PAGE_LEVEL_MIN; bench.level <= PAGE_LEVEL_MAX; bench.level++)
        print_level(&bench, copy);
    return 0;
}
