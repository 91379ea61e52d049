/* Every machine and compiler codes the same values to the same bytes: constants, the same on all.
 *
 * A change of the format changes them; nothing else may. The values are made of integers alone,
 * since libm differs between machines. */
#include "tests/unit/test_page_support.h"

#include <xxhash.h>

static const struct page_shape shapes[] = {
    {1, 1, 1, 0}, {2, 1, 64, 0}, {64, 3, 40, 0}, {127, 5, 17, 0}, {128, 8, 128, 0}, {3, 1, 1000, 0},
};
enum { SHAPE_COUNT = sizeof shapes / sizeof *shapes };

/* A sum of uniforms: about normal, and exact in float32. */
static float nearly_normal(uint64_t *state) {
    int32_t sum = 0;
    for (int i = 0; i < 6; i++)
        sum += (int32_t)(random_bits(state) >> 48) - (1 << 15);
    return (float)sum * 0x1p-15f;
}

/* Channels with means and sizes of their own, some tokens larger; halves and bfloats are cut, not
 * rounded, so that no arithmetic of the machine's is in them. */
static struct tensor tensor_of(enum page_dtype dtype, const struct page_shape *shape) {
    struct tensor tensor = tensor_new(dtype, shape->tokens, shape->heads, shape->head_dim);
    size_t channels = tensor.strides.token;
    uint64_t state = channels * 131 + shape->tokens;
    for (size_t i = 0; i < tensor.values; i++) {
        size_t c = i % channels, t = i / channels;
        float size = (float)(1 << c % 5) * (t % 9 == 8 ? 4.0f : 1.0f) * 0.125f;
        float x = (float)(c % 7) - 3 + size * nearly_normal(&state);
        if (dtype == PAGE_F16)
            ((uint16_t *)tensor.data)[i] = half_nearest(x);
        else if (dtype == PAGE_BF16)
            ((uint16_t *)tensor.data)[i] = (uint16_t)(bits_of(x) >> 16);
        else
            ((float *)tensor.data)[i] = x;
    }
    return tensor;
}

struct sums {
    XXH3_state_t *in, *pages, *values;
};

static void add_part(struct sums *sums, const struct tensor *in, enum page_part part, int level,
                     uint32_t sinks) {
    struct coded page = encode_part(in, part, level, sinks);
    XXH3_64bits_update(sums->in, in->data, in->bytes);
    XXH3_64bits_update(sums->pages, page.bytes, page.length);
    for (int to = 0; to < DTYPE_COUNT; to++) {
        struct tensor out = decode_as(&page, all_dtypes[to], 0, in->shape.tokens);
        XXH3_64bits_update(sums->values, out.data, out.bytes);
    }
}

static XXH3_state_t *sum_new(void) {
    XXH3_state_t *state = XXH3_createState();
    ck_assert_ptr_nonnull(state);
    XXH3_64bits_reset(state);
    return state;
}

static unsigned long long sum_end(XXH3_state_t *state) {
    unsigned long long sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

static const struct {
    unsigned long long pages, values; /* xxh3 of all pages, of all values decoded */
} expected[LEVEL_COUNT] = {
    {0xb78c20d9ee4beea1, 0xf447ab6751962de3}, /* exact */
    {0x50ba09ecb02107ef, 0xee0ffa1a8042127d}, /* fast8 */
    {0x8122564f362b4e5d, 0xb63452cd2284a76f}, /* 0 */
    {0x7c0ed182c3ac20d3, 0x7b5516c67e5282d4}, /* 1 */
    {0xffc66d18bb7c9378, 0x32357c7c9b6fb718}, /* 2 */
    {0x976c14e9436a3fa4, 0xa58f500679da1016}, /* 3 */
    {0xb5a51d3b0a4cd380, 0x4536e3fbd6f2f8f1}, /* 4 */
    {0x3928a4cc7cb25138, 0xf20580e060f91901}, /* 5 */
};
static const unsigned long long expected_in = 0x4dcc017e1b162f6;

START_TEST(a_level_has_the_same_bytes_and_values_on_every_machine) {
    struct sums sums = {sum_new(), sum_new(), sum_new()};
    for (int s = 0; s < SHAPE_COUNT; s++)
        for (int d = 0; d < DTYPE_COUNT; d++) {
            struct tensor in = tensor_of(all_dtypes[d], &shapes[s]);
            add_part(&sums, &in, PAGE_K, PAGE_LEVEL_MIN + _i, in.shape.tokens >= 4 ? 4 : 0);
            add_part(&sums, &in, PAGE_V, PAGE_LEVEL_MIN + _i, 0);
        }
    unsigned long long in = sum_end(sums.in), pages = sum_end(sums.pages),
                       values = sum_end(sums.values);
    ck_assert_msg(in == expected_in, "the test's own values differ: %#llx", in);
    ck_assert_msg(pages == expected[_i].pages && values == expected[_i].values,
                  "level %d is now {%#llx, %#llx}", PAGE_LEVEL_MIN + _i, pages, values);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page golden");
    TCase *tests = tcase_create("golden");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, a_level_has_the_same_bytes_and_values_on_every_machine, 0,
                        LEVEL_COUNT);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
