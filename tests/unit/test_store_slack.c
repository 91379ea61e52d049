/* What records take beside their pages, and that nothing of what lay there before is left in them.
 */
#include <string.h>

#include "tests/unit/test_store_support.h"

/* A model of 32 layers, 8 heads of 128. */
static const struct geometry wide = {
    .layers = 32, .heads = 8, .head_dim_k = 128, .head_dim_v = 128, .dtype = PAGE_F16};
enum { WIDE_TOKENS = 512, WIDE_ROW = 8 * 128 };

static uint16_t wide_values[PAGE * WIDE_ROW];

/* Nearly normal numbers from -4 to 4 as float16, by their bits: sign, exponent, mantissa. */
static uint16_t half_of(float value) {
    _Static_assert(sizeof value == 4, "float is 32 bits");
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
    if (exponent <= 0)
        return (uint16_t)(bits >> 16 & 0x8000);
    return (uint16_t)((bits >> 16 & 0x8000) | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

static void put_wide(struct append_member *append, uint64_t first) {
    for (uint32_t layer = 0; layer < wide.layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct append_part piece = {.first = first,
                                        .tokens = PAGE,
                                        .layer = layer,
                                        .part = part,
                                        .values = wide_values,
                                        .bytes = sizeof wide_values};
            ck_assert_int_eq(append_put(append, &piece, workspace), STORE_OK);
        }
}

static void store_wide(const char *name, int level) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &wide,
                                 .policy = {.level = level, .newest_level = level, .floor = level}};
    for (int i = 0; i < PAGE * WIDE_ROW; i++)
        wide_values[i] = half_of(nearly_normal());
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
    struct append_member *append = begin(name, 0, WIDE_TOKENS, true);
    for (uint64_t first = 0; first < WIDE_TOKENS; first += PAGE)
        put_wide(append, first);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}

static struct record *record_of(const char *name, size_t slice) {
    struct session *session = store_find(&store, name_of(name));
    struct record *record = chunk_pin(session->slices[slice].chunk);
    session_unref(session);
    return record;
}

static uint64_t bytes_of_pages(const struct record *record) {
    uint64_t bytes = record->exact_bytes;
    for (int i = 0; i < USAGE_LEVELS; i++)
        bytes += record->levels[i].bytes;
    return bytes;
}

static const int levels[] = {PAGE_EXACT, PAGE_FAST8, 3, 5};

static void set_up_large(void) {
    struct store_options options = {.memory_bytes = 256 << 20,
                                    .landing_level = PAGE_FAST8,
                                    .codec_threads = 1,
                                    .memory_high_percent = 100,
                                    .memory_low_percent = 100};
    ck_assert_int_eq(store_init(&store, &options), 0);
    workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
}

START_TEST(a_large_models_session_takes_at_most_two_percent_beside_its_pages) {
    uint64_t pages = 0, records = 0, extents = 0;
    store_wide("a", levels[_i]);
    for (size_t i = 0; i < WIDE_TOKENS / PAGE; i++) {
        struct record *record = record_of("a", i);
        pages += bytes_of_pages(record);
        records += record->bytes;
        extents += record->reserved_bytes;
        record_unpin(record);
    }
    ck_assert_uint_le(info_of("a").stored_bytes * 100, pages * 102);
    ck_assert_uint_le(extents * 100, records * 103);
}
END_TEST

START_TEST(a_record_in_memory_that_was_used_is_the_same_as_in_fresh_memory) {
    enum { SESSION_ID = 24, RECORD_HASH = 88 };
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, PAGE, true);
    struct record *record = record_of("a", 0);
    uint64_t bytes = record->reserved_bytes;
    uint8_t *fresh = malloc(bytes);
    memcpy(fresh, pool_memory(record->pool, &record->extent), bytes);
    memset(pool_memory(record->pool, &record->extent), 0xa5, bytes); /* a stranger's */
    record_unpin(record);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, PAGE, true);
    record = record_of("a", 0);
    uint8_t *used = pool_memory(record->pool, &record->extent);
    ck_assert_uint_eq(record->reserved_bytes, bytes);
    memcpy(fresh + SESSION_ID, used + SESSION_ID, 8);
    memcpy(fresh + RECORD_HASH, used + RECORD_HASH, 8);
    ck_assert_mem_eq(used, fresh, bytes);
    record_unpin(record);
    free(fresh);
}
END_TEST

int main(void) {
    TCase *large = tcase_create("large"), *cases = tcase_create("slack");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_checked_fixture(large, set_up_large, tear_down);
    tcase_add_loop_test(large, a_large_models_session_takes_at_most_two_percent_beside_its_pages, 0,
                        sizeof levels / sizeof levels[0]);
    tcase_add_test(cases, a_record_in_memory_that_was_used_is_the_same_as_in_fresh_memory);
    tcase_set_timeout(large, 60);
    int failed = run_suite(large) != EXIT_SUCCESS;
    failed |= run_suite(cases) != EXIT_SUCCESS;
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
