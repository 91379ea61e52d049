/* Small ranges, one after another, by way of the cache of decoded pages. */
#include "tests/unit/test_store_support.h"

enum { RANGE = 16, CACHE_BYTES = 4 << 20, LEVEL = 3 };

static struct page_cache cache;
static char from_cache[CACHE_BYTES], decoded[CACHE_BYTES];

static void set_up_cache(void) {
    set_up();
    cache = (struct page_cache){.memory = malloc(CACHE_BYTES), .bytes = CACHE_BYTES};
    ck_assert_int_eq(open_session("a", LEVEL), STORE_OK);
    store_tokens("a", 0, 2 * PAGE, true);
}

static void tear_down_cache(void) {
    free(cache.memory);
    tear_down();
}

/* All that the fetch sends, behind each other; their bytes, or 0 for a miss. */
static size_t fetched(const struct fetch_request *request, struct page_cache *with, char *out) {
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count, total = 0;
    struct fetch_room room = got_room;
    room.cache = with;
    int status = fetch_begin(&store, request, &fetch);
    while (status == STORE_OK || status == STORE_MORE) {
        status = fetch_next(&store, &fetch, &room, workspace, pieces, &count);
        if (status == STORE_OK)
            return total;
        const char *at = room.values;
        for (size_t i = 0; status == STORE_MORE && i < count; i++) {
            memcpy(out + total, at, pieces[i].bytes);
            at += pieces[i].bytes;
            total += pieces[i].bytes;
        }
    }
    return 0;
}

static struct fetch_request range_of(const char *name, uint64_t first, uint64_t tokens) {
    return (struct fetch_request){.session = name_of(name), .first = first, .end = first + tokens};
}

static void check(const struct fetch_request *request) {
    size_t bytes = fetched(request, &cache, from_cache);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_eq(fetched(request, NULL, decoded), bytes);
    ck_assert_mem_eq(from_cache, decoded, bytes);
}

static void check_ranges(const char *name, uint64_t first, uint64_t end) {
    for (; first < end; first += RANGE) {
        struct fetch_request request = range_of(name, first, RANGE);
        check(&request);
    }
}

/* Of the first chunk. */
static void damage_last_page(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    struct record *record = chunk_pin(session->slices[0].chunk);
    uint8_t *memory = pool_memory(record->pool, &record->extent);
    memory[record->bytes - 40] ^= 1;
    record_unpin(record);
    session_unref(session);
}

START_TEST(ranges_one_after_another_are_what_decoding_gives) {
    enum page_dtype dtypes[] = {PAGE_F16, PAGE_BF16, PAGE_F32};
    for (uint64_t first = 0; first < 2 * PAGE; first += RANGE) {
        struct fetch_request request = range_of("a", first, RANGE);
        request.dtype = dtypes[_i % 3];
        request.heads_first = _i / 3 % 2;
        request.skip_k = _i / 6 == 1;
        request.skip_v = _i / 6 == 2;
        check(&request);
    }
    ck_assert_uint_gt(cache.count, 0);
}
END_TEST

START_TEST(from_the_third_range_on_no_page_is_decoded) {
    struct fetch_request request = range_of("a", 2 * RANGE, RANGE);
    check_ranges("a", 0, 2 * RANGE);
    size_t bytes = fetched(&request, NULL, decoded);
    damage_last_page("a");
    ck_assert_uint_eq(fetched(&request, &cache, from_cache), bytes);
    ck_assert_mem_eq(from_cache, decoded, bytes);
    ck_assert_uint_eq(fetched(&request, NULL, decoded), 0);
}
END_TEST

START_TEST(a_chunk_that_was_coded_anew_is_decoded_anew) {
    check_ranges("a", 0, 3 * RANGE);
    age_session("a", LEVEL + 1);
    check_ranges("a", 0, PAGE);
}
END_TEST

START_TEST(other_tokens_in_the_same_place_are_decoded_anew) {
    check_ranges("a", 0, 3 * RANGE);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    values[0] += 1;
    values[100 * ROW_VALUES] += 1;
    ck_assert_int_eq(open_session("a", LEVEL), STORE_OK);
    store_tokens("a", 0, 2 * PAGE, true);
    check_ranges("a", 0, PAGE);
}
END_TEST

START_TEST(sessions_read_in_turn_are_not_kept) {
    ck_assert_int_eq(open_session("b", LEVEL + 1), STORE_OK);
    store_tokens("b", 0, PAGE, true);
    for (uint64_t first = 0; first < PAGE; first += RANGE) {
        check_ranges("a", first, first + RANGE);
        check_ranges("b", first, first + RANGE);
        ck_assert_uint_eq(cache.count, 0);
    }
}
END_TEST

START_TEST(what_does_not_fit_is_decoded) {
    size_t page_bytes = sizeof(float) * PAGE * ROW_VALUES;
    cache.bytes = (size_t)_i * page_bytes;
    check_ranges("a", 0, 2 * PAGE);
    ck_assert_uint_le(cache.count, (size_t)_i);
}
END_TEST

START_TEST(large_ranges_are_not_kept) {
    for (int i = 0; i < 3; i++) {
        struct fetch_request request = range_of("a", 0, PAGE / 2 + 1);
        check(&request);
    }
    ck_assert_uint_eq(cache.count, 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("page cache");
    tcase_add_checked_fixture(cases, set_up_cache, tear_down_cache);
    tcase_add_loop_test(cases, ranges_one_after_another_are_what_decoding_gives, 0, 18);
    tcase_add_test(cases, from_the_third_range_on_no_page_is_decoded);
    tcase_add_test(cases, a_chunk_that_was_coded_anew_is_decoded_anew);
    tcase_add_test(cases, other_tokens_in_the_same_place_are_decoded_anew);
    tcase_add_test(cases, sessions_read_in_turn_are_not_kept);
    tcase_add_loop_test(cases, what_does_not_fit_is_decoded, 0, 2 * LAYERS + 1);
    tcase_add_test(cases, large_ranges_are_not_kept);
    return run_suite(cases);
}
