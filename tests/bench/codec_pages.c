#include "tests/bench/codec_pages.h"

#include "tests/bench/fail.h"
#include "tests/bench/kv_values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const float MEAN_SCALE = 2;

/* Pages of memory come when they are written to first: rehearsals do that. */
static uint8_t *room(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    return memory;
}

static struct coded_pages coded_new(const struct codec_pages *pages) {
    return (struct coded_pages){
        .memory = room(pages->coded_bytes_max),
        .page =
            (struct page_bytes *)(void *)touched_memory(pages->count * sizeof(struct page_bytes)),
    };
}

static void fill_synthetic(struct codec_pages *pages, size_t distinct) {
    size_t channels = (size_t)pages->shape.heads * pages->shape.head_dim;
    for (size_t p = 0; p < distinct; p++)
        kv_values_fill((uint16_t *)(void *)(pages->source + p * pages->page_bytes),
                       pages->shape.tokens, channels, MEAN_SCALE, p);
}

/* Returns how many pages the file had. */
static size_t fill_from_file(struct codec_pages *pages, const char *path, size_t distinct) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail(path);
    size_t read = fread(pages->source, pages->page_bytes, distinct, file);
    fclose(file);
    if (read < 2)
        fail_because("%s: not two pages of this shape", path);
    return read / 2 * 2;
}

static void fill(struct codec_pages *pages, const struct codec_data *data) {
    bool all = data->distinct == 0 || data->distinct > pages->count;
    size_t distinct = all ? pages->count : data->distinct;
    if (data->file != NULL)
        distinct = fill_from_file(pages, data->file, distinct);
    else
        fill_synthetic(pages, distinct);
    for (size_t p = distinct; p < pages->count; p++)
        memcpy(pages->source + p * pages->page_bytes,
               pages->source + p % distinct * pages->page_bytes, pages->page_bytes);
}

struct codec_pages codec_pages_new(const struct codec_data *data, size_t bytes) {
    struct codec_pages pages = {
        .shape = data->shape,
        .strides = {.token = (size_t)data->shape.heads * data->shape.head_dim,
                    .head = data->shape.head_dim},
        .page_bytes = (size_t)data->shape.tokens * data->shape.heads * data->shape.head_dim *
                      page_value_bytes(data->shape.dtype),
        .sequence_pages = data->sequence_pages,
    };
    size_t pairs = bytes / pages.page_bytes / 2;
    pages.count = pairs > 0 ? 2 * pairs : 2;
    pages.coded_bytes_max = pages.count * ((page_bound_bytes(&pages.shape) + 63) / 64 * 64);
    pages.source = (uint8_t *)touched_memory(codec_pages_bytes(&pages));
    pages.target = (uint8_t *)touched_memory(codec_pages_bytes(&pages));
    pages.workspace = touched_memory(PAGE_WORKSPACE_BYTES);
    for (size_t i = 0; i < CODEC_LEVELS; i++)
        pages.coded[i] = coded_new(&pages);
    pages.aged = room(pages.coded_bytes_max);
    fill(&pages, data);
    return pages;
}

static void coded_free(const struct codec_pages *pages, struct coded_pages *coded) {
    munmap(coded->memory, pages->coded_bytes_max);
    free(coded->page);
}

void codec_pages_free(struct codec_pages *pages) {
    for (size_t i = 0; i < CODEC_LEVELS; i++)
        coded_free(pages, &pages->coded[i]);
    munmap(pages->aged, pages->coded_bytes_max);
    free(pages->source);
    free(pages->target);
    free(pages->workspace);
}
