/* Writes good pages for fuzz_page_bytes to start from, a file each: write_seeds FOLDER */
#include "proto/page/page.h"
#include "tests/fuzz/must.h"

#include <string.h>

static const struct page_shape shapes[] = {
    {1, 1, 1, 0}, {3, 1, 70, 0}, {9, 2, 5, 0}, {65, 1, 3, 0}, {128, 1, 2, 0}, {17, 1, 20, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, VALUES_MAX = 1024, PAGE_MAX = 1 << 14 };

static void fill(float *values, size_t count) {
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)state * 0x1p-31f * (i % 7 == 3 ? 9 : 1);
    }
}

/* As bits of the dtype: upper halves for both of 16 bits, which is as good as any. */
static void to_dtype(void *values, const float *from, size_t count, enum page_dtype dtype) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        if (dtype == PAGE_F32)
            ((uint32_t *)values)[i] = bits;
        else /* a half of the same size, about */
            ((uint16_t *)values)[i] =
                (uint16_t)(dtype == PAGE_BF16 ? bits >> 16
                           : bits << 1 >> 24 > 112
                               ? (bits >> 16 & 0x8000) | (((bits << 1 >> 24) - 112) & 31) << 10 |
                                     (bits >> 13 & 1023)
                               : 0);
    }
}

static void write_page(const char *folder, struct page_source *source, void *workspace) {
    static uint8_t page[PAGE_MAX];
    char path[4096];
    size_t length;
    must(page_encode(source, workspace, page, sizeof page, &length, NULL) == PAGE_OK,
         "a seed is encoded");
    snprintf(path, sizeof path, "%s/seed-%ux%ux%u-%d-%d-%u", folder, source->shape.tokens,
             source->shape.heads, source->shape.head_dim, (int)source->shape.dtype, source->level,
             source->sink_tokens);
    FILE *file = fopen(path, "wb");
    must(file != NULL, "the folder is there");
    must(fwrite(page, 1, length, file) == length && fclose(file) == 0, "there is room");
}

static void write_levels(const char *folder, const struct page_shape *shape, const void *values,
                         void *workspace) {
    for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++)
        for (uint32_t sinks = 0; sinks <= shape->tokens && sinks <= 2; sinks += 2) {
            struct page_source source = {
                .shape = *shape,
                .level = level,
                .sink_tokens = sinks,
                .values = values,
                .strides = {(size_t)shape->heads * shape->head_dim, shape->head_dim}};
            write_page(folder, &source, workspace);
        }
}

static void write_shape(const char *folder, struct page_shape shape, void *workspace) {
    static float values[VALUES_MAX];
    static uint32_t bits[VALUES_MAX];
    size_t count = (size_t)shape.tokens * shape.heads * shape.head_dim;
    fill(values, count);
    for (shape.dtype = PAGE_F16; shape.dtype <= PAGE_F32; shape.dtype++) {
        to_dtype(bits, values, count, shape.dtype);
        write_levels(folder, &shape, bits, workspace);
    }
}

/* Any bytes but those that are no numbers. */
static void write_compact(const char *folder, void *workspace) {
    static uint8_t bytes[VALUES_MAX];
    struct page_shape shape = {.tokens = 9, .heads = 1, .head_dim = 32};
    for (size_t i = 0; i < VALUES_MAX; i++)
        bytes[i] = (uint8_t)(i * 37 & 0x3f);
    for (shape.dtype = PAGE_F8E4M3; shape.dtype <= PAGE_Q4_0; shape.dtype++)
        write_levels(folder, &shape, bytes, workspace);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: write_seeds FOLDER\n");
        return 2;
    }
    void *workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    must(workspace != NULL, "there is memory");
    for (size_t i = 0; i < SHAPES; i++)
        write_shape(argv[1], shapes[i], workspace);
    write_compact(argv[1], workspace);
    free(workspace);
    return 0;
}
