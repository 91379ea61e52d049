/* libFuzzer: any values of any shape, anywhere in memory, to the encoder and back.
 *
 * All tables of kernels that the machine runs, one after another, must make the same page; with
 * KVQ_CPU in the environment only that table is asked.
 */
#include "tests/fuzz/kernel_tables.h"
#include "tests/fuzz/page_values.h"

#include <string.h>

enum { VALUES_MAX = 1 << 13, BLOCK = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* The input's first bytes; what is left of it makes the values. */
struct choices {
    uint8_t tokens, heads, head_dim[2], dtype, level, part_heads_end, gap, off, sinks, decibels,
        layers, kind;
};

static uint32_t within(uint32_t number, uint32_t max) {
    return 1 + number % max;
}

static bool has_blocks(enum page_dtype dtype) {
    return page_value_bytes(dtype) == 0;
}

static struct page_shape shape_of(const struct choices *choices) {
    enum page_dtype dtype = (enum page_dtype)(PAGE_F16 + choices->dtype % PAGE_Q4_0);
    uint32_t wide = choices->head_dim[1] % 8 == 0 ? 600 : 40; /* mostly small: more of them */
    uint32_t head_dim = within(choices->head_dim[0] | (uint32_t)choices->head_dim[1] << 8, wide);
    head_dim = has_blocks(dtype) ? BLOCK * within(head_dim, 4) : head_dim;
    uint32_t heads = within(choices->heads, 9);
    uint32_t most = (wide == 600 ? VALUES_MAX : VALUES_MAX / 4) / (heads * head_dim);
    uint32_t tokens = within(choices->tokens, most < 1                 ? 1
                                              : most < PAGE_TOKENS_MAX ? most
                                                                       : PAGE_TOKENS_MAX);
    return (struct page_shape){tokens, heads, head_dim, dtype};
}

static struct page_values values_of(const struct choices *choices, const void *values) {
    struct page_shape shape = shape_of(choices);
    uint32_t sinks = choices->sinks % (PAGE_SINK_TOKENS + 1), layers = choices->layers % 8;
    return (struct page_values){
        .shape = shape,
        .part = choices->part_heads_end & 1 ? PAGE_V : PAGE_K,
        .level = PAGE_LEVEL_MIN + choices->level % (PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1),
        .snr_db = choices->decibels % 4 == 3 ? choices->decibels / 4 : 0,
        .sink_tokens = sinks < shape.tokens ? sinks : shape.tokens,
        .layer = layers > 0 ? choices->layers / 8 % layers : 0,
        .layers = layers,
        .by_heads = (choices->part_heads_end & 2) != 0,
        .gap = has_blocks(shape.dtype) ? choices->gap % 2 * BLOCK : choices->gap % 9,
        .off_bytes = choices->off % 64,
        .at_end = (choices->part_heads_end & 4) != 0,
        .values = values,
    };
}

static uint32_t mixed(uint32_t x) {
    x = (x ^ x >> 16) * 0x45d9f3bu;
    return (x ^ x >> 16) * 0x45d9f3bu;
}

/* The input over and over; or numbers near 1, their sizes from the input: such pages are lossy. */
static void fill(uint8_t *values, const struct page_values *page, unsigned kind,
                 const uint8_t *input, size_t length) {
    size_t value = page_value_bytes(page->shape.dtype), mantissa = value == 4 ? 23 : 7;
    mantissa = page->shape.dtype == PAGE_F16 ? 10 : mantissa;
    uint32_t middle = page->shape.dtype == PAGE_F16 ? 13 : 125;
    size_t count = (size_t)page->shape.tokens * page->shape.heads * page->shape.head_dim;
    for (size_t i = 0; i < page_row_bytes(page->shape.dtype, count); i++)
        values[i] = input[i % length];
    if (page->shape.dtype > PAGE_F32)
        return;
    for (size_t i = 0; kind % 4 != 0 && i < count; i++) {
        uint32_t noise = mixed((uint32_t)i + kind), size = input[i % length];
        uint32_t bits = (middle + size % 3) << mantissa | noise % (1u << mantissa);
        bits |= (noise >> 31) << (8 * value - 1);
        if (noise % 256 < kind / 64) /* some as they came */
            continue;
        memcpy(values + i * value, &bits, value); /* little-endian, as pages are */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static struct page_writer writer;
    static uint8_t memory[VALUES_MAX * 4];
    struct choices choices;
    if (length <= sizeof choices)
        return 0;
    if (writer.page.first == NULL)
        writer = page_writer_new();
    memcpy(&choices, bytes, sizeof choices);
    struct page_values values = values_of(&choices, memory);
    fill(memory, &values, choices.kind, bytes + sizeof choices, length - sizeof choices);
    bool one = getenv("KVQ_CPU") != NULL;
    uint64_t expected = one ? page_writer_try(&writer, &values) : 0;
    for (size_t i = 0; !one && i < KERNEL_TABLES_MAX; i++) {
        const struct page_kernels *kernels = kernel_table(i);
        if (kernels == NULL)
            continue;
        page_kernels_use(kernels);
        uint64_t digest = page_writer_try(&writer, &values);
        must(i == 0 || digest == expected, kernels->name);
        expected = digest;
    }
    return 0;
}
