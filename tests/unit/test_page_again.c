/* A decoded page quantised again with its own means and steps: the same integers. */
#include "proto/page/quantise.h"
#include "tests/unit/test_page_support.h"

/* A page's numbers, and what its first tile holds. */
struct opened {
    struct page_header header;
    struct quantise_reader reader;
    struct quantise_reader *readers[1];
};

static struct opened *open_page(const struct coded *page) {
    struct opened *opened = keep(sizeof *opened + 64);
    opened = (struct opened *)(((uintptr_t)opened + 63) & ~(uintptr_t)63);
    struct workspace workspace = page_workspace(guarded_new(PAGE_WORKSPACE_BYTES, 1).data);
    ck_assert_int_eq(page_header_read(page->bytes, page->length, &opened->header), PAGE_OK);
    size_t front = page_exact_end(&opened->header);
    struct payload payload = {page->bytes + front, page->length - front};
    ck_assert(quantise_open(&opened->reader, &opened->header, payload, &workspace));
    opened->readers[0] = &opened->reader;
    return opened;
}

/* The decoded values' tile, quantised as the page was. */
static void quantise_again(const struct opened *page, const struct tensor *out, size_t channel,
                           void *q) {
    const void *rows[PAGE_TOKENS_MAX];
    float fine[PAGE_TOKENS_MAX];
    static uint32_t residual[PAGE_TOKENS_MAX][PAGE_LANES];
    struct page_sums sums = {.residual = residual};
    enum page_dtype dtype = out->shape.dtype;
    size_t row_bytes = out->strides.token * page_value_bytes(dtype);
    for (size_t t = 0; t < page->reader.page.tokens; t++) {
        rows[t] = (uint8_t *)out->data + t * row_bytes;
        fine[t] = 256 * (1 / page->reader.page.step[t]);
    }
    struct page_source_rows in = {.rows = rows,
                                  .offset_bytes = channel * page_value_bytes(dtype),
                                  .tokens = page->reader.page.tokens,
                                  .channels = tile_channels(page->reader.page.channels, channel)};
    const float *mean = page->reader.page.mean + channel;
    ck_assert_uint_eq(page->header.flags & FLAG_WIDE
                          ? page_kernels()->quantise16[dtype](&in, mean, fine, q, &sums)
                          : page_kernels()->quantise8[dtype](&in, mean, fine, q, &sums),
                      0);
}

START_TEST(a_decoded_page_coded_again_gives_the_same_integers) {
    static _Alignas(64) int16_t again[PAGE_BLOCK * RANS_ROW_VALUES];
    struct tensor in = tensor_random(all_dtypes[_i % DTYPE_COUNT], 127, 3, 40, (uint64_t)_i);
    struct coded coded = encode(&in, _i / DTYPE_COUNT, 0);
    struct tensor out = decode(&coded);
    struct opened *page = open_page(&coded);
    ck_assert_uint_eq(page->header.exact_tokens, 0);
    size_t value_bytes = page->header.flags & FLAG_WIDE ? 2 : 1;
    for (size_t c = 0; c < page->reader.page.channels; c += PAGE_BLOCK) {
        ck_assert(quantise_read_tiles(page->readers, 1, c));
        quantise_again(page, &out, c, again);
        for (size_t row = 0; row < tile_channels(page->reader.page.channels, c); row++) {
            size_t at = row * RANS_ROW_VALUES * value_bytes;
            ck_assert_mem_eq((uint8_t *)again + at, (uint8_t *)page->reader.tile + at,
                             127 * value_bytes);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, coded again");
    TCase *tests = tcase_create("again");
    tcase_add_loop_test(tests, a_decoded_page_coded_again_gives_the_same_integers, 0,
                        DTYPE_COUNT * (PAGE_LEVEL_MAX + 1));
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
