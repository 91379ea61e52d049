/* Speed of the page codec on one core, from memory: GB/s of 16-bit data, and against memcpy.
 *
 *   gcc -std=gnu11 -O3 -fno-math-errno -ffp-contract=off -I. proto/page/[a-z]*.c \
 *       tests/bench/bench_codec.c -lm -o bench_codec
 *   bench_codec [MIB [HEADS HEAD_DIM]]
 *
 * Pages of 128 tokens of Gaussian values with channel means and deviations that differ as in real
 * caches; every pass walks MIB (default 48) of them, more than a cache holds. Best of five, in time
 * on the processor. KVQ_CPU=portable in the environment measures the portable kernels; the command
 * above builds no others, `make bench` does.
 */
#include "proto/page/kernels.h"
#include "proto/page/page.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 128, PASSES = 5 };

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

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static float gaussian(uint64_t *state) {
    double u = (double)(next_random(state) >> 11) * 0x1p-53 + 0x1p-54;
    double v = (double)(next_random(state) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static uint16_t to_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 23 & 255) - 112;
    if (exponent <= 0)
        return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | (unsigned)exponent << 10 | (bits >> 13 & 0x3ff));
}

static void fill(struct bench *bench) {
    uint64_t state = 88172645463325252u;
    size_t channels = (size_t)bench->shape.heads * bench->shape.head_dim;
    uint16_t *values = (uint16_t *)bench->raw;
    float mean[4096], deviation[4096];
    for (size_t p = 0; p < bench->pages; p++) {
        for (size_t c = 0; c < channels; c++) {
            mean[c] = 2 * gaussian(&state);
            deviation[c] = expf(0.5f * gaussian(&state));
        }
        for (size_t t = 0; t < TOKENS; t++) {
            float scale = expf(0.2f * gaussian(&state));
            for (size_t c = 0; c < channels; c++)
                *values++ = to_half(mean[c] + deviation[c] * scale * gaussian(&state));
        }
    }
}

static void copy_pass(struct bench *bench) {
    for (size_t p = 0; p < bench->pages; p++)
        memcpy(bench->back + p * bench->page_bytes, bench->raw + p * bench->page_bytes,
               bench->page_bytes);
}

static void fail(const char *what) {
    fprintf(stderr, "bench_codec: %s\n", what);
    exit(1);
}

static void encode_pass(struct bench *bench) {
    for (size_t p = 0; p < bench->pages; p++) {
        struct page_source source = {.shape = bench->shape,
                                     .level = bench->level,
                                     .values = bench->raw + p * bench->page_bytes,
                                     .strides = bench->strides};
        if (page_encode(&source, bench->workspace, bench->coded + p * bench->slot_bytes,
                        bench->slot_bytes, &bench->length[p], NULL) != PAGE_OK)
            fail("a page was refused");
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
            fail("a page did not decode");
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

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == NULL)
        fail("out of memory");
    memset(memory, 1, bytes);
    return memory;
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
        fail("no such page of 128 tokens");
    bench.page_bytes = (size_t)TOKENS * heads * head_dim * 2;
    bench.slot_bytes = page_bound_bytes(&bench.shape);
    bench.pages = (mib << 20) / bench.page_bytes;
    bench.raw = allocate(bench.pages * bench.page_bytes);
    bench.back = allocate(bench.pages * bench.page_bytes);
    bench.coded = allocate(bench.pages * bench.slot_bytes);
    bench.length = allocate(bench.pages * sizeof *bench.length);
    bench.workspace = allocate(PAGE_WORKSPACE_BYTES);
    fill(&bench);
    double copy = speed(&bench, copy_pass);
    printf("memcpy %.2f GB/s; kernels %s; %zu pages of %u x %u x %u\n", copy, page_kernels()->name,
           bench.pages, TOKENS, heads, head_dim);
    for (bench.level = PAGE_LEVEL_MIN; bench.level <= PAGE_LEVEL_MAX; bench.level++) {
        double encode = speed(&bench, encode_pass), decode = speed(&bench, decode_pass);
        size_t bytes = 0;
        for (size_t p = 0; p < bench.pages; p++)
            bytes += bench.length[p];
        printf("level %2d: %6.3f bits a value, encode %.3f GB/s (%.2f x memcpy), "
               "decode %.3f GB/s (%.2f x memcpy)\n",
               bench.level, 16.0 * (double)bytes / (double)(bench.pages * bench.page_bytes), encode,
               encode / copy, decode, decode / copy);
    }
    return 0;
}
