/* A million broken pages: each is an error or a page, within bounds, and the same on all kernels.
 */
#include "tests/fuzz/kernel_tables.h"
#include "tests/fuzz/page_bytes.h"
#include "tests/unit/test_page_support.h"

enum {
    KINDS = PAGE_Q4_0 * LEVEL_COUNT,
    CHANGED_PAGES = 4000, /* of each kind; with four tables a million tries */
    LENGTH_MAX = 1 << 13,
};

static const struct page_shape shapes[] = {
    {1, 1, 1, 0}, {2, 1, 70, 0}, {9, 2, 5, 0}, {65, 1, 3, 0}, {5, 3, 40, 0}, {17, 1, 20, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, SEEDS = 2 * SHAPES };

struct seed {
    size_t length;
    uint8_t bytes[LENGTH_MAX];
};

/* Compact dtypes have any bytes for values, and whole blocks. */
static struct tensor tensor_of(enum page_dtype dtype, const struct page_shape *shape, int seed) {
    uint64_t state = (uint64_t)seed;
    if (dtype <= PAGE_F32)
        return tensor_random(dtype, shape->tokens, shape->heads, shape->head_dim, state);
    struct tensor in = tensor_new(dtype, shape->tokens, 1, dtype >= PAGE_Q8_0 ? 32 : 9);
    for (size_t i = 0; i < in.bytes; i++)
        ((uint8_t *)in.data)[i] = (uint8_t)(random_bits(&state) & 0x3f);
    return in;
}

static struct seed seed_of(int kind, size_t shape, uint32_t sinks) {
    struct seed seed;
    enum page_dtype dtype = (enum page_dtype)(PAGE_F16 + kind / LEVEL_COUNT);
    struct tensor in = tensor_of(dtype, &shapes[shape], kind);
    struct coded page =
        encode_part(&in, sinks ? PAGE_V : PAGE_K, PAGE_LEVEL_MIN + kind % LEVEL_COUNT,
                    sinks < in.shape.tokens ? sinks : in.shape.tokens);
    ck_assert_uint_le(page.length, LENGTH_MAX);
    memcpy(seed.bytes, page.bytes, seed.length = page.length);
    return seed;
}

/* ---- changes: what a broken disk, a broken writer and an attacker would do ---- */

enum { HEADER = 48, PAGE_BYTES_AT = 20 };

static size_t place(const struct seed *page, uint64_t random) {
    size_t at = (size_t)(random >> 8);
    size_t near = random % 4 == 0 ? HEADER : random % 4 == 1 ? 256 : page->length;
    return at % (near < page->length ? near : page->length);
}

static void flip_bit(struct seed *page, uint64_t random) {
    uint8_t *byte = &page->bytes[place(page, random)];
    *byte = (uint8_t)(*byte ^ 1u << (random >> 60 & 7));
}

static void set_byte(struct seed *page, uint64_t random) {
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 64, 128, 31};
    page->bytes[place(page, random)] =
        random >> 59 & 1 ? edges[random >> 60 & 7] : (uint8_t)(random >> 50);
}

static void randomise_tail(struct seed *page, uint64_t random) {
    uint64_t state = random;
    for (size_t at = HEADER + place(page, random) % page->length; at < page->length; at++)
        page->bytes[at] = (uint8_t)random_bits(&state);
}

/* The header keeps telling the length, as that of a careful attacker would. */
static void set_length(struct seed *page, size_t length) {
    uint32_t told = (uint32_t)length;
    if (page->length >= HEADER && length >= HEADER)
        memcpy(page->bytes + PAGE_BYTES_AT, &told, sizeof told);
    page->length = length;
}

static void cut_short(struct seed *page, uint64_t random) {
    set_length(page, 1 + place(page, random));
}

static void remove_bytes(struct seed *page, uint64_t random) {
    size_t at = place(page, random), count = 1 + (random >> 52) % (page->length - at);
    if (count == page->length)
        return;
    memmove(page->bytes + at, page->bytes + at + count, page->length - at - count);
    set_length(page, page->length - count);
}

static void insert_bytes(struct seed *page, uint64_t random) {
    size_t at = place(page, random), count = 1 + (random >> 52) % 64;
    if (page->length + count > LENGTH_MAX)
        return;
    memmove(page->bytes + at + count, page->bytes + at, page->length - at);
    set_length(page, page->length + count);
}

/* A wrong number where the stream keeps its sections' lengths, wherever that is. */
static void set_number(struct seed *page, uint64_t random) {
    static const uint32_t edges[] = {0,          1,   0x7fffffff, 0x80000000,
                                     0xffffffff, 128, 1 << 18,    1 << 20};
    size_t at = place(page, random);
    if (at + 4 <= page->length)
        memcpy(page->bytes + at, &edges[random >> 61], 4);
}

static void change(struct seed *page, uint64_t *state) {
    static void (*const changes[])(struct seed *, uint64_t) = {
        flip_bit, set_byte,     randomise_tail, cut_short,
        flip_bit, remove_bytes, insert_bytes,   set_number,
    };
    size_t count = 1 + random_bits(state) % 3;
    for (size_t i = 0; i < count; i++)
        changes[random_bits(state) % 8](page, random_bits(state));
}

/* ---- tests ---- */

/* Sanitizers are ten times as slow, and make fuzz has them. */
static size_t changed_pages(void) {
    const char *sanitizers = getenv("KVQ_SANITIZE");
    return sanitizers != NULL && *sanitizers ? CHANGED_PAGES / 10 : CHANGED_PAGES;
}

static void try_on_all(struct page_reader *reader, const struct seed *page, bool at_end) {
    uint64_t expected = 0;
    for (size_t i = 0; i < KERNEL_TABLES_MAX; i++) {
        const struct page_kernels *kernels = kernel_table(i);
        if (kernels == NULL)
            continue;
        page_kernels_use(kernels);
        uint64_t digest = page_reader_try(reader, page->bytes, page->length, at_end);
        expected = i == 0 ? digest : expected;
        ck_assert_msg(digest == expected, "%s kernels differ from the portable ones",
                      kernels->name);
    }
}

START_TEST(a_changed_page_is_an_error_or_a_page_the_same_on_all_kernels) {
    struct page_reader reader = page_reader_new();
    uint64_t state = (uint64_t)_i;
    for (size_t i = 0; i < SEEDS; i++) {
        struct seed seed = seed_of(_i, i / 2, i % 2 ? 4 : 0);
        try_on_all(&reader, &seed, true);
        for (size_t j = 0; j < changed_pages() / SEEDS; j++) {
            struct seed page = seed;
            change(&page, &state);
            try_on_all(&reader, &page, j % 2);
        }
    }
    page_reader_free(&reader);
}
END_TEST

/* Kernels turn a tile into values while they decode the next: of 16-bit floats, of more tokens than
 * lanes. */
START_TEST(a_changed_page_of_two_tiles_is_an_error_or_a_page_the_same_on_all_kernels) {
    struct page_reader reader = page_reader_new();
    int level = _i / 2;
    uint32_t tokens = level < 3 ? RANS_LANES + 2 : PAGE_TOKENS_MAX; /* what a seed has room for */
    struct tensor in = tensor_random(_i % 2 ? PAGE_BF16 : PAGE_F16, tokens, 2, 64, (uint64_t)_i);
    struct coded coded = encode(&in, level, 0);
    struct seed seed = {.length = coded.length};
    uint64_t state = (uint64_t)_i;
    ck_assert_uint_le(coded.length, LENGTH_MAX);
    memcpy(seed.bytes, coded.bytes, coded.length);
    try_on_all(&reader, &seed, true);
    for (size_t i = 0; i < changed_pages() / 10; i++) {
        struct seed page = seed;
        change(&page, &state);
        try_on_all(&reader, &page, i % 2);
    }
    page_reader_free(&reader);
}
END_TEST

START_TEST(random_bytes_are_an_error_or_a_page_the_same_on_all_kernels) {
    struct page_reader reader = page_reader_new();
    struct seed page = {.length = 300};
    uint64_t state = 5;
    for (size_t i = 0; i < changed_pages(); i++) {
        for (size_t at = 0; at < page.length; at++)
            page.bytes[at] = (uint8_t)random_bits(&state);
        struct seed good = seed_of((int)i % KINDS, 4, 0);
        memcpy(page.bytes, good.bytes, i % HEADER);
        try_on_all(&reader, &page, true);
    }
    page_reader_free(&reader);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page fuzz");
    TCase *tests = tcase_create("fuzz");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, a_changed_page_is_an_error_or_a_page_the_same_on_all_kernels, 0,
                        KINDS);
    tcase_add_loop_test(tests,
                        a_changed_page_of_two_tiles_is_an_error_or_a_page_the_same_on_all_kernels,
                        0, 2 * (PAGE_LEVEL_MAX + 1));
    tcase_add_test(tests, random_bytes_are_an_error_or_a_page_the_same_on_all_kernels);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
