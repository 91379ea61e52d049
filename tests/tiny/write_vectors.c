/* The frozen pages of tests/golden, and pages of the tiny profile's shape, as vectors for the
 * target. usage: write_vectors FILE */
#include "client/cli/model_values.h"
#include "proto/page/kernels.h"
#include "tests/fuzz/must.h"
#include "tests/golden/golden_cases.h"
#include "tests/tiny/vectors.h"

#include <stdio.h>
#include <stdlib.h>

static void write_bytes(FILE *file, const void *bytes, size_t count) {
    must(fwrite(bytes, 1, count, file) == count, "there is room");
}

/* The page before it was aged, if it was; again, because what comes of a case is in one place. */
static size_t encode(const struct page_source *source, struct golden_work *work, void *page) {
    size_t written;
    must(page_encode(source, work->workspace, page, VECTOR_PAGE_BYTES_MAX, &written, NULL) ==
             PAGE_OK,
         "a page of a vector is encoded");
    return written;
}

static void write_vector(FILE *file, const struct golden_page *made, struct golden_work *work,
                         uint8_t *page) {
    const struct page_source *source = &made->source;
    bool aged = made->level != source->level;
    struct vector vector = {
        .tokens = source->shape.tokens,
        .heads = source->shape.heads,
        .head_dim = source->shape.head_dim,
        .dtype = source->shape.dtype,
        .part = source->part,
        .sink_tokens = source->sink_tokens,
        .level = source->level,
        .aged_level = made->level,
        .value_bytes = (uint32_t)made->value_bytes,
        .page_bytes = (uint32_t)encode(source, work, page),
        .aged_bytes = aged ? (uint32_t)made->page_bytes : 0,
    };
    snprintf(vector.name, sizeof vector.name, "%s", made->name);
    must(made->value_bytes <= VECTOR_VALUE_BYTES_MAX, "the target has room for the values");
    write_bytes(file, &vector, sizeof vector);
    write_bytes(file, source->values, vector.value_bytes);
    write_bytes(file, page, vector.page_bytes);
    write_bytes(file, made->page, vector.aged_bytes);
    write_bytes(file, made->values, vector.value_bytes);
}

/* A page of config/profiles/tiny.json's shape, of values like a model's. */
static struct golden_page profile_page(struct golden_work *work, enum page_part part, int level) {
    struct golden_page made = {
        .page = work->page,
        .values = work->decoded,
        .level = level,
        .source = {.shape = {128, 4, 64, PAGE_F16},
                   .part = part,
                   .level = level,
                   .sink_tokens = PAGE_SINK_TOKENS,
                   .values = work->values,
                   .strides = {256, 64}},
    };
    snprintf(made.name, sizeof made.name, "tiny-%s-level%d", part == PAGE_K ? "k" : "v", level);
    must(model_values_fill(work->values, 128, 4, 64, part == PAGE_K ? KVQ_K : KVQ_V, 1),
         "there is memory");
    made.page_bytes = encode(&made.source, work, work->page);
    made.value_bytes = 128 * 256 * sizeof(uint16_t);
    struct page_target target = {
        .tokens = 128, .dtype = PAGE_F16, .values = work->decoded, .strides = made.source.strides};
    must(page_decode(made.page, made.page_bytes, &target, work->workspace) == PAGE_OK,
         "a page of the profile is decoded");
    return made;
}

int main(int argc, char **argv) {
    must(argc == 2, "usage: write_vectors FILE");
    FILE *file = fopen(argv[1], "wb");
    must(file != NULL, argv[1]);
    struct golden_work work = golden_work_new();
    uint8_t *page = malloc(VECTOR_PAGE_BYTES_MAX);
    must(page != NULL, "there is memory");
    for (size_t i = 0; i < golden_page_count(); i++) {
        struct golden_page made = golden_page(i, &work);
        write_vector(file, &made, &work, page);
    }
    for (int part = PAGE_K; part <= PAGE_V; part++)
        for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++) {
            struct golden_page made = profile_page(&work, (enum page_part)part, level);
            write_vector(file, &made, &work, page);
        }
    free(page);
    golden_work_free(&work);
    must(fclose(file) == 0, "there is room");
    return 0;
}
