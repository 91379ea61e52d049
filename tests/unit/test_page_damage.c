/* Bytes that are not a page, or no longer: an error or a page, and nothing touched outside. */
#include "tests/unit/test_page_support.h"

static int level_of(int i) {
    return PAGE_LEVEL_MIN + i % LEVEL_COUNT;
}

static enum page_dtype dtype_of(int i) {
    return all_dtypes[i / LEVEL_COUNT];
}

static struct tensor small_tensor(int i) {
    return tensor_random(dtype_of(i), 21, 2, 20, 1);
}

/* Page and target lie between untouchable memory, on the side asked for. */
struct arena {
    struct guarded page, values;
    struct tensor out;
};

static struct arena arena_new(const struct tensor *in, size_t length, int guard_behind) {
    return (struct arena){.page = guarded_new(length, guard_behind),
                          .values = guarded_new(in->bytes, guard_behind),
                          .out = *in};
}

static int decode_in(struct arena *arena, size_t length) {
    struct page_info info;
    int peeked = page_peek(arena->page.data, length, &info);
    struct page_target target = {.tokens = arena->out.shape.tokens,
                                 .dtype = arena->out.shape.dtype,
                                 .values = arena->values.data,
                                 .strides = arena->out.strides};
    if (peeked == PAGE_OK && (info.shape.heads != arena->out.shape.heads ||
                              info.shape.head_dim != arena->out.shape.head_dim))
        return PAGE_ARGUMENT; /* a caller knows the shape it has room for */
    int error = page_decode(arena->page.data, length, &target, dirty_workspace());
    if (peeked != PAGE_OK)
        ck_assert_int_eq(error, peeked);
    return error;
}

START_TEST(a_page_cut_short_is_damaged) {
    struct tensor in = small_tensor(_i);
    struct coded page = encode(&in, level_of(_i), 4);
    struct arena arena = arena_new(&in, page.length, 1);
    uint8_t *end = arena.page.data + page.length;
    for (size_t length = 0; length < page.length; length++) {
        arena.page.data = end - length;
        memcpy(arena.page.data, page.bytes, length);
        ck_assert_int_eq(decode_in(&arena, length), PAGE_DAMAGED);
    }
}
END_TEST

/* Cut short, with a header that says so. */
START_TEST(a_page_cut_short_with_a_matching_length_is_damaged) {
    struct tensor in = small_tensor(_i);
    struct coded page = encode(&in, level_of(_i), 4);
    struct arena arena = arena_new(&in, page.length, 1);
    uint8_t *end = arena.page.data + page.length;
    for (uint32_t length = 48; length < page.length; length++) {
        arena.page.data = end - length;
        memcpy(arena.page.data, page.bytes, length);
        memcpy(arena.page.data + 20, &length, 4);
        ck_assert_int_eq(decode_in(&arena, length), PAGE_DAMAGED);
    }
}
END_TEST

static void mutate(uint8_t *bytes, size_t length, uint64_t *state) {
    int changes = 1 + (int)(random_bits(state) % 4);
    for (int i = 0; i < changes; i++) {
        size_t at = random_bits(state) % length;
        if (random_bits(state) % 2)
            at %= 200; /* headers are where it hurts */
        uint8_t flipped = (uint8_t)(bytes[at % length] ^ 1u << at % 8);
        bytes[at % length] = random_bits(state) % 2 ? (uint8_t)random_bits(state) : flipped;
    }
}

START_TEST(random_changes_stay_within_bounds) {
    struct tensor in = small_tensor(_i);
    struct coded page = encode(&in, level_of(_i), 4);
    uint64_t state = (uint64_t)_i;
    int survived = 0;
    for (int guard_behind = 0; guard_behind < 2; guard_behind++) {
        struct arena arena = arena_new(&in, page.length, guard_behind);
        for (int i = 0; i < 2500; i++) {
            memcpy(arena.page.data, page.bytes, page.length);
            mutate(arena.page.data, page.length, &state);
            survived += decode_in(&arena, page.length) == PAGE_OK;
        }
    }
    ck_assert_int_lt(survived, 5000); /* some changes must show */
}
END_TEST

START_TEST(random_bytes_behind_a_good_header_stay_within_bounds) {
    struct tensor in = small_tensor(_i);
    struct coded page = encode(&in, level_of(_i), 0);
    struct arena arena = arena_new(&in, page.length, 1);
    uint64_t state = 77;
    for (int i = 0; i < 1000; i++) {
        memcpy(arena.page.data, page.bytes, page.length);
        for (size_t at = 48; at < page.length; at++)
            arena.page.data[at] = (uint8_t)random_bits(&state);
        (void)decode_in(&arena, page.length);
    }
}
END_TEST

START_TEST(random_bytes_are_no_page) {
    struct tensor in = small_tensor(0);
    struct arena arena = arena_new(&in, 300, 1);
    uint64_t state = 78;
    for (int i = 0; i < 10000; i++) {
        for (size_t at = 0; at < 300; at++)
            arena.page.data[at] = (uint8_t)random_bits(&state);
        ck_assert_int_eq(decode_in(&arena, 300), PAGE_DAMAGED);
    }
}
END_TEST

/* The entropy coded streams end in a known state: a flipped bit shows, but for some near the end.
 */
START_TEST(flipped_bits_in_an_entropy_coded_stream_show) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 2);
    struct coded page = encode(&in, _i, 0);
    struct arena arena = arena_new(&in, page.length, 1);
    uint32_t refill;
    memcpy(&refill, page.bytes + 48 + 128, 4);
    int unnoticed = 0;
    for (size_t at = 0; at < 500; at++) {
        memcpy(arena.page.data, page.bytes, page.length);
        uint8_t *byte = arena.page.data + 48 + 136 + at * refill / 500;
        *byte = (uint8_t)(*byte ^ 1u << at % 8);
        unnoticed += decode_in(&arena, page.length) == PAGE_OK;
    }
    ck_assert_int_le(unnoticed, 25);
}
END_TEST

START_TEST(another_format_is_told_apart_from_damage) {
    struct tensor in = small_tensor(0);
    struct coded page = encode(&in, 3, 0);
    struct page_info info;
    page.bytes[2] ^= 1;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_VERSION);
    page.bytes[0] ^= 1;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_DAMAGED);
}
END_TEST

struct change {
    size_t at;
    uint8_t to;
};

/* Offsets as FORMAT.md gives them, on a page of level 3. */
static const struct change impossible[] = {
    {3, 4},     {3, 0},  {3, 1},     {3, 2},     {4, 6},     {4, 0xff}, {5, 0},     {5, 9},
    {6, 2},     {7, 8},  {8, 0},     {8, 129},   {9, 22},    {11, 64},  {14, 0xff}, {12, 0},
    {18, 0xff}, {16, 0}, {25, 0x80}, {25, 0},    {25, 0x7f}, {26, 64},  {27, 64},   {28, 64},
    {30, 1},    {31, 1}, {35, 0x80}, {39, 0xff}, {40, 1},    {47, 1},   {50, 3},    {51, 4},

};
enum { IMPOSSIBLE_COUNT = sizeof impossible / sizeof *impossible };

START_TEST(a_header_field_that_cannot_be_is_damage) {
    struct tensor in = small_tensor(0);
    struct coded page = encode(&in, 3, 4);
    page.bytes[impossible[_i].at] = impossible[_i].to;
    struct page_info info;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_DAMAGED);
}
END_TEST

START_TEST(a_lossy_page_of_which_every_token_is_exact_is_damage) {
    struct tensor in = tensor_random(PAGE_F16, 4, 2, 20, 1);
    struct coded page = encode(&in, 3, 4);
    struct arena arena = arena_new(&in, page.length, 1);
    memcpy(arena.page.data, page.bytes, page.length);
    ck_assert_int_eq(decode_in(&arena, page.length), PAGE_OK);
    arena.page.data[3] = 2; /* fast8 */
    arena.page.data[4] = 0xff;
    ck_assert_int_eq(decode_in(&arena, page.length), PAGE_DAMAGED);
}
END_TEST

/* Scales below 2^-120 and above 2^120, one that is negative, and one whose base is infinite. */
static const struct {
    uint16_t scale, base;
} impossible_grids[] = {{0x037f, 0}, {0x7b81, 0}, {0xbf80, 0}, {0x7b80, 0x7fff}};
enum { IMPOSSIBLE_GRIDS = sizeof impossible_grids / sizeof *impossible_grids };

START_TEST(a_fast8_channel_that_cannot_be_is_damage) {
    struct tensor in = small_tensor(0);
    struct coded page = encode(&in, PAGE_FAST8, 0);
    struct arena arena = arena_new(&in, page.length, 1);
    size_t scales = 48, bases = scales + 2 * (size_t)in.shape.heads * in.shape.head_dim;
    memcpy(page.bytes + scales, &impossible_grids[_i].scale, 2);
    memcpy(page.bytes + bases, &impossible_grids[_i].base, 2);
    memcpy(arena.page.data, page.bytes, page.length);
    ck_assert_int_eq(decode_in(&arena, page.length), PAGE_DAMAGED);
}
END_TEST

/* Bytes 24 and 25 are the upper half of step, byte 11 mean_shift: means count in step *
 * 2^(mean_shift - 4), of which 2^15 are to be a number. */
START_TEST(means_beyond_all_numbers_are_damage) {
    struct tensor in = small_tensor(0);
    struct coded page = encode(&in, 3, 0);
    struct page_info info;
    page.bytes[24] = 0x80, page.bytes[25] = 0x71; /* 2^100 */
    page.bytes[11] = 16;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_OK);
    page.bytes[11] = 17;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_DAMAGED);
}
END_TEST

START_TEST(a_coded_page_of_too_many_channels_is_damage) {
    struct tensor in = small_tensor(0);
    struct coded page = encode(&in, level_of(_i), 0);
    struct page_info info;
    const uint32_t heads = 1 << 15, head_dim = 2;
    page.bytes[8] = 1;
    memcpy(page.bytes + 12, &heads, 4);
    memcpy(page.bytes + 16, &head_dim, 4);
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_DAMAGED);
}
END_TEST

/* The largest shape a header can claim, with next to nothing behind it. */
START_TEST(a_small_page_that_claims_a_large_shape_is_refused_in_time) {
    struct tensor in = tensor_new(all_dtypes[_i / LEVEL_COUNT], 1, 1, 1 << 18);
    struct coded page = encode(&in, level_of(_i), 0);
    struct arena arena = arena_new(&in, page.length, 1);
    uint64_t state = 79;
    for (int i = 0; i < 20; i++) {
        memcpy(arena.page.data, page.bytes, page.length);
        for (size_t at = 48; at < page.length && at < 4096; at++)
            arena.page.data[at] = (uint8_t)random_bits(&state);
        (void)decode_in(&arena, page.length);
    }
}
END_TEST

int main(void) {
    enum { ALL = DTYPE_COUNT * LEVEL_COUNT };
    Suite *suite = suite_create("page, damaged");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, a_page_cut_short_is_damaged, 0, ALL);
    tcase_add_loop_test(tests, a_page_cut_short_with_a_matching_length_is_damaged, 0, ALL);
    tcase_add_loop_test(tests, random_changes_stay_within_bounds, 0, ALL);
    tcase_add_loop_test(tests, random_bytes_behind_a_good_header_stay_within_bounds, 0, ALL);
    tcase_add_test(tests, random_bytes_are_no_page);
    tcase_add_loop_test(tests, flipped_bits_in_an_entropy_coded_stream_show, 0, PAGE_LEVEL_MAX + 1);
    tcase_add_test(tests, another_format_is_told_apart_from_damage);
    tcase_add_loop_test(tests, a_header_field_that_cannot_be_is_damage, 0, IMPOSSIBLE_COUNT);
    tcase_add_test(tests, a_lossy_page_of_which_every_token_is_exact_is_damage);
    tcase_add_loop_test(tests, a_fast8_channel_that_cannot_be_is_damage, 0, IMPOSSIBLE_GRIDS);
    tcase_add_test(tests, means_beyond_all_numbers_are_damage);
    tcase_add_loop_test(tests, a_coded_page_of_too_many_channels_is_damage, 0, LEVEL_COUNT);
    tcase_add_loop_test(tests, a_small_page_that_claims_a_large_shape_is_refused_in_time, 0, ALL);
    return run_suite(suite);
}
