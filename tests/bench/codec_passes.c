#include "tests/bench/codec_passes.h"

#include "tests/bench/fail.h"
#include "tests/bench/streaming_copy.h"

#include <string.h>

static struct coded_pages *coded_of(const struct codec_pass *pass) {
    return &pass->pages->coded[pass->level - PAGE_LEVEL_MIN];
}

void pass_memcpy(const struct codec_pass *pass) {
    const struct codec_pages *pages = pass->pages;
    for (size_t at = 0; at < codec_pages_bytes(pages); at += pages->page_bytes)
        memcpy(pages->target + at, pages->source + at, pages->page_bytes);
}

void pass_streaming(const struct codec_pass *pass) {
#ifdef __SSE2__
    const struct codec_pages *pages = pass->pages;
    for (size_t at = 0; at < codec_pages_bytes(pages); at += pages->page_bytes)
        streaming_copy(pages->target + at, pages->source + at, pages->page_bytes);
#else
    (void)pass;
#endif
}

/* Where the next page goes, behind the one that was written. */
static size_t next_place(size_t at, size_t written) {
    return at + (written + 63) / 64 * 64;
}

void pass_encode(const struct codec_pass *pass) {
    struct codec_pages *pages = pass->pages;
    struct coded_pages *coded = coded_of(pass);
    struct page_source source = {
        .shape = pages->shape, .level = pass->level, .strides = pages->strides};
    for (size_t p = 0, at = 0; p < pages->count; p++) {
        source.part = p % 2 ? PAGE_V : PAGE_K;
        source.sink_tokens = codec_pages_sinks(pages, p);
        source.values = pages->source + p * pages->page_bytes;
        coded->page[p].page = coded->memory + at;
        if (page_encode(&source, pages->workspace, coded->memory + at, pages->coded_bytes_max - at,
                        &coded->page[p].bytes, NULL) != PAGE_OK)
            fail_because("a page was refused");
        at = next_place(at, coded->page[p].bytes);
    }
}

static struct page_target target_of(const struct codec_pass *pass, size_t page) {
    const struct codec_pages *pages = pass->pages;
    return (struct page_target){.tokens = pages->shape.tokens,
                                .dtype = pages->shape.dtype,
                                .values = pages->target + page * pages->page_bytes,
                                .strides = pages->strides,
                                .streaming = pass->streaming};
}

void pass_decode(const struct codec_pass *pass) {
    struct codec_pages *pages = pass->pages;
    const struct page_bytes *page = coded_of(pass)->page;
    for (size_t p = 0; p < pages->count; p++) {
        struct page_target target = target_of(pass, p);
        if (page_decode(page[p].page, page[p].bytes, &target, pages->workspace) != PAGE_OK)
            fail_because("a page did not decode");
    }
}

void pass_decode_pairs(const struct codec_pass *pass) {
    struct codec_pages *pages = pass->pages;
    const struct page_bytes *page = coded_of(pass)->page;
    for (size_t p = 0; p < pages->count; p += 2) {
        struct page_target targets[2] = {target_of(pass, p), target_of(pass, p + 1)};
        if (page_decode_pair(page + p, targets, pages->workspace) != PAGE_OK)
            fail_because("two pages did not decode");
    }
}

static bool has_level(const struct page_bytes *page, int level) {
    struct page_info info;
    return page_peek(page->page, page->bytes, &info) == PAGE_OK && info.level == level;
}

void pass_age(const struct codec_pass *pass) {
    struct codec_pages *pages = pass->pages;
    const struct page_bytes *page = coded_of(pass)->page;
    for (size_t p = 0, at = 0; p < pages->count; p++) {
        size_t written;
        if (!has_level(page + p, pass->level))
            continue;
        if (page_age((struct page_bytes){page[p].page, page[p].bytes}, pass->level + 1,
                     pages->workspace, pages->aged + at, pages->coded_bytes_max - at, &written,
                     NULL) != PAGE_OK)
            fail_because("a page did not age");
        at = next_place(at, written);
    }
}

void pass_age_pairs(const struct codec_pass *pass) {
    struct codec_pages *pages = pass->pages;
    const struct page_bytes *page = coded_of(pass)->page;
    for (size_t p = 0, at = 0; p < pages->count; p += 2) {
        size_t room[2] = {page[p].bytes, page[p + 1].bytes}, written[2];
        void *outs[2] = {pages->aged + at, pages->aged + next_place(at, room[0])};
        if (!has_level(page + p, pass->level) || !has_level(page + p + 1, pass->level))
            continue;
        if (page_age_pair(page + p, pass->level + 1, pages->workspace, outs, room, written, NULL) !=
            PAGE_OK)
            fail_because("two pages did not age");
        at = next_place(next_place(at, room[0]), room[1]);
    }
}
