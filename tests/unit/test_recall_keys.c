/* Recall by keys: what it finds is what a plain reference finds, on every processor; and what it
 * refuses. */
#include <math.h>

#include "daemon/recall/key_kernels.h"
#include "daemon/recall/recall_keys.h"
#include "daemon/store/spill.h"
#include "tests/fuzz/kernel_tables.h"
#include "tests/unit/test_store_disk_support.h"

enum { QUERIES = 4, BLOCK = SUMMARY_BLOCK_TOKENS, TOKENS = 5 * PAGE + 40 };
enum { BLOCKS = 5 * PAGE / BLOCK, QUERY_VALUES = LAYERS * QUERIES * HEAD_DIM };

static float queries[QUERY_VALUES];

static float *queries_of(uint32_t layer) {
    return queries + (size_t)layer * QUERIES * HEAD_DIM;
}

static const size_t layer_query_bytes = sizeof queries / LAYERS;

static void fill_queries(void) {
    for (size_t i = 0; i < QUERY_VALUES; i++)
        queries[i] = 2 * nearly_normal();
}

/* --- choosing --- */

static size_t random_below(size_t end) {
    ck_assert_uint_gt(end, 0);
    return (size_t)rand() / ((size_t)RAND_MAX / end + 1);
}

static int falling(const void *a, const void *b) {
    int16_t left = *(const int16_t *)a, right = *(const int16_t *)b;
    return (left < right) - (left > right);
}

static const float score_unit = (float)M_LN2 / KEY_DOUBLING;

/* A range has the best score of its blocks, which count as chosen. How many tokens it has. */
static size_t mark_range(const struct key_range *range, const int16_t *scores, bool *chosen) {
    int16_t best = INT16_MIN;
    for (uint64_t at = range->first; at < range->first + range->tokens; at += 4) {
        size_t block = (size_t)at / 4;
        chosen[block] = true;
        best = scores[block] > best ? scores[block] : best;
    }
    ck_assert(range->score == (float)best * score_unit);
    return range->tokens;
}

/* The hundredth block has a gap behind it. */
static void expect_choice(const int16_t *scores, size_t count, size_t k) {
    static struct key_range blocks[512], ranges[512];
    static int16_t sorted[512];
    bool chosen[512] = {false};
    size_t tokens = 0, most = k < count ? k : count;
    for (size_t i = 0; i < count; i++)
        blocks[i] = (struct key_range){.first = 4 * i + (i > 100), .tokens = 4};
    memcpy(sorted, scores, count * sizeof *scores);
    qsort(sorted, count, sizeof *sorted, falling);
    size_t found = key_choose(scores, blocks, count, k, ranges);
    for (size_t i = 0; i < found; i++) {
        ck_assert(i == 0 || ranges[i].first > ranges[i - 1].first + ranges[i - 1].tokens);
        tokens += mark_range(&ranges[i], scores, chosen);
    }
    ck_assert_uint_eq(tokens, 4 * most);
    for (size_t i = 0; i < count; i++)
        ck_assert(chosen[i] ? scores[i] >= sorted[most - 1] : scores[i] <= sorted[most - 1]);
}

START_TEST(the_best_blocks_are_chosen_in_their_order) {
    static int16_t scores[512];
    for (int round = 0; round < 300; round++) {
        size_t count = 1 + random_below(512), values = 1 + random_below(round % 2 ? 4 : 4096);
        for (size_t i = 0; i < count; i++)
            scores[i] = (int16_t)(-(int)random_below(values));
        expect_choice(scores, count, 1 + random_below(count));
        expect_choice(scores, count, count + random_below(3));
    }
}
END_TEST

START_TEST(no_share_is_larger_than_one) {
    static const int16_t scores[] = {-1,
                                     2}; /* the sum that it is a share of is off by some percent */
    struct key_range blocks[] = {{0, 4, 0}, {4, 4, 0}}, ranges[2];
    ck_assert_uint_eq(key_choose(scores, blocks, 2, 1, ranges), 1);
    ck_assert_uint_eq(ranges[0].first, 4);
    ck_assert(ranges[0].score == 0);
}
END_TEST

START_TEST(of_equal_blocks_the_first_are_chosen) {
    static const int16_t scores[] = {-2, -1, -2, -1, -2};
    struct key_range blocks[5], ranges[5];
    for (size_t i = 0; i < 5; i++)
        blocks[i] = (struct key_range){.first = 4 * i, .tokens = 4};
    ck_assert_uint_eq(key_choose(scores, blocks, 5, 3, ranges), 2);
    ck_assert_uint_eq(ranges[0].first, 0);
    ck_assert_uint_eq(ranges[0].tokens, 8);
    ck_assert(ranges[0].score == -score_unit);
    ck_assert_uint_eq(ranges[1].first, 12);
    blocks[3].tokens = 0;
    ck_assert_uint_eq(key_choose(scores, blocks, 5, 2, ranges), 1);
}
END_TEST

/* --- a session --- */

static void store_with_keys(const char *name, uint64_t tokens) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = {.level = 3, .floor = PAGE_LEVEL_MAX},
                                 .key_summaries = true};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
    store_tokens(name, 0, tokens, false);
}

static struct fetch fetch_of(const char *name, uint64_t first, uint64_t end) {
    struct fetch fetch;
    struct fetch_request request = {.session = name_of(name), .first = first, .end = end};
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    return fetch;
}

static struct recall_keys *begin_recall(const struct fetch *fetch, uint32_t k) {
    struct recall_keys *recall;
    const char *fault;
    struct recall_keys_request request = {.fetch = fetch, .queries = QUERIES, .k = k};
    ck_assert_int_eq(recall_keys_begin(&store, &request, &recall, &fault), STORE_OK);
    return recall;
}

static void put_queries(struct recall_keys *recall) {
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        ck_assert_int_eq(recall_keys_put(recall, layer, queries_of(layer), layer_query_bytes),
                         STORE_OK);
}

static struct recall_keys *recall_blocks(const struct fetch *fetch, uint32_t k) {
    int status;
    struct recall_keys *recall = begin_recall(fetch, k);
    put_queries(recall);
    while ((status = recall_keys_step(recall)) == STORE_MORE)
        ;
    ck_assert_int_eq(status, STORE_OK);
    return recall;
}

/* What the summary says of a block's mean, by SUMMARY.md, times a query. */
static double score_of(const struct key_summary *summary, uint32_t layer, size_t query,
                       size_t block) {
    struct page_shape shape = geometry_shape(&geometry, PAGE_K, PAGE);
    struct summary_layout layout;
    ck_assert(page_summary_layout(&shape, &layout));
    struct summary_head head = page_summary_head(
        &layout, key_summary_layer(summary, &geometry, PAGE, layer), (uint32_t)query / 2);
    uint8_t codes[SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES];
    double sum = 0;
    for (size_t d = 0; d < HEAD_DIM; d++) {
        size_t vector = d / 4 * 2 + block / SUMMARY_LANES;
        page_summary_unpack(head.units + vector / SUMMARY_UNIT_VECTORS * SUMMARY_UNIT_BYTES, codes);
        uint8_t code = codes[vector % SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES +
                             block % SUMMARY_LANES * 4 + d % 4];
        double mean = (double)head.centre_scale * head.centres[d] +
                      (code - 3.5) * (double)head.step_scale * head.steps[d];
        sum += (double)queries_of(layer)[query * HEAD_DIM + d] * mean;
    }
    return sum / sqrt(HEAD_DIM);
}

/* The logarithm of the largest share that a query gives to each block. */
static void reference(const char *name, uint32_t layer, double best[BLOCKS]) {
    struct session *session = store_find(&store, name_of(name));
    for (size_t b = 0; b < BLOCKS; b++)
        best[b] = -INFINITY;
    for (size_t q = 0; q < QUERIES; q++) {
        double scores[BLOCKS], sum = 0;
        for (size_t b = 0; b < BLOCKS; b++) {
            const struct chunk *chunk = session->slices[b * BLOCK / PAGE].chunk;
            scores[b] = score_of(&chunk->summary, layer, q, b % (PAGE / BLOCK));
            sum += exp(scores[b]);
        }
        for (size_t b = 0; b < BLOCKS; b++)
            best[b] = fmax(best[b], scores[b] - log(sum));
    }
    session_unref(session);
}

static double kth_of(const double *scores, size_t k) {
    double left[BLOCKS], kth = 0;
    memcpy(left, scores, sizeof left);
    for (; k > 0; k--) {
        size_t most = 0;
        for (size_t b = 0; b < BLOCKS; b++)
            most = left[b] > left[most] ? b : most;
        kth = left[most];
        left[most] = -INFINITY;
    }
    return kth;
}

/* A query's products with the steps have eight bits, and scores are rounded: so near to the k-th
 * either may be chosen. */
static void expect_best(const struct recall_keys *recall, const char *name, uint32_t layer,
                        size_t k) {
    const double near = 0.1;
    double scores[BLOCKS];
    size_t count, blocks = 0;
    const struct key_range *ranges = recall_keys_ranges(recall, layer, &count);
    reference(name, layer, scores);
    double kth = kth_of(scores, k);
    for (size_t i = 0; i < count; i++) {
        double best = -INFINITY;
        for (uint64_t t = ranges[i].first; t < ranges[i].first + ranges[i].tokens; t += BLOCK) {
            best = fmax(best, scores[t / BLOCK]);
            ck_assert_double_ge(scores[t / BLOCK], kth - near);
            blocks++;
        }
        ck_assert_double_le(fabs((double)ranges[i].score - best), near);
    }
    ck_assert_uint_eq(blocks, k);
}

START_TEST(each_layer_has_the_blocks_that_a_plain_reference_finds) {
    if (!kernel_table((size_t)_i))
        return;
    page_kernels_use(kernel_table((size_t)_i));
    fill_queries();
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    for (uint32_t k = 1; k <= BLOCKS; k += 23) {
        struct recall_keys *recall = recall_blocks(&fetch, k);
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            expect_best(recall, "a", layer, k);
        recall_keys_end(recall);
    }
}
END_TEST

START_TEST(keys_that_are_asked_for_are_found) {
    enum { WANTED = 332 };
    store_with_keys("a", TOKENS);
    memset(queries, 0, sizeof queries);
    for (size_t i = 0; i < QUERY_VALUES; i++) /* all queries are what the block's keys add up to */
        for (size_t t = WANTED; t < WANTED + BLOCK; t++)
            queries[i] +=
                4 * values[t * ROW_VALUES + i % (QUERIES * HEAD_DIM) / (2 * HEAD_DIM) * HEAD_DIM +
                           i % HEAD_DIM];
    struct fetch fetch = fetch_of("a", 0, 0);
    struct recall_keys *recall = recall_blocks(&fetch, 1);
    size_t count;
    const struct key_range *range = recall_keys_ranges(recall, 1, &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(range->first, WANTED);
    ck_assert_uint_eq(range->tokens, BLOCK);
    ck_assert_float_gt(range->score, -0.15F);
    recall_keys_end(recall);
}
END_TEST

static uint64_t tokens_of(const struct recall_keys *recall, uint64_t first, uint64_t end) {
    size_t count;
    uint64_t tokens = 0;
    const struct key_range *ranges = recall_keys_ranges(recall, 0, &count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_ge(ranges[i].first, first);
        ck_assert_uint_le(ranges[i].first + ranges[i].tokens, end);
        tokens += ranges[i].tokens;
    }
    return tokens;
}

static void expect_tokens(const char *name, uint64_t first, uint64_t end, uint64_t tokens) {
    struct fetch fetch = fetch_of(name, first, end);
    struct recall_keys *recall = recall_blocks(&fetch, RECALL_BLOCKS_MAX);
    ck_assert_uint_eq(tokens_of(recall, first, end), tokens);
    recall_keys_end(recall);
}

START_TEST(only_tokens_that_were_asked_for_are_found) {
    fill_queries();
    store_with_keys("a", TOKENS);
    expect_tokens("a", 0, TOKENS, 5 * PAGE); /* the tail has no summary */
    expect_tokens("a", 4, 300, 296);
    expect_tokens("a", 130, 140, 8); /* blocks that are wholly among them */
    expect_tokens("a", 130, 131, 0);
    expect_tokens("a", 5 * PAGE, TOKENS, 0);
    expect_tokens("a", 7, 7, 0);
}
END_TEST

START_TEST(of_a_chunk_that_is_cut_only_what_is_left_is_found) {
    fill_queries();
    store_with_keys("a", TOKENS);
    ck_assert_int_eq(fork_session("a", "b", 200), STORE_OK);
    expect_tokens("b", 0, 200, 200);
    expect_tokens("b", 188, 200, 12);
    ck_assert_int_eq(truncate_session("a", 299), STORE_OK);
    expect_tokens("a", 0, 299, 299);
    expect_tokens("a", 296, 299, 3);
}
END_TEST

/* --- what is refused --- */

static void expect_refusal(const struct fetch *fetch, uint32_t heads, uint32_t k) {
    struct recall_keys *recall;
    const char *fault = NULL;
    struct recall_keys_request request = {.fetch = fetch, .queries = heads, .k = k};
    ck_assert_int_eq(recall_keys_begin(&store, &request, &recall, &fault), STORE_INVALID);
    ck_assert_ptr_nonnull(fault);
}

START_TEST(what_cannot_be_is_refused) {
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    expect_refusal(&fetch, QUERIES, 0);
    expect_refusal(&fetch, QUERIES, UINT32_MAX);
    expect_refusal(&fetch, QUERIES, RECALL_BLOCKS_MAX + 1);
    expect_refusal(&fetch, 0, 1);
    expect_refusal(&fetch, HEADS + 1, 1);
    expect_refusal(&fetch, HEADS << 20, 1);
    expect_refusal(&fetch, UINT32_MAX - 1, 1);
}
END_TEST

START_TEST(queries_that_are_none_of_a_layer_are_refused) {
    fill_queries();
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    struct recall_keys *recall = begin_recall(&fetch, 1);
    size_t bytes = layer_query_bytes;
    ck_assert_int_eq(recall_keys_put(recall, LAYERS, queries, bytes), STORE_INVALID);
    ck_assert_int_eq(recall_keys_put(recall, UINT32_MAX, queries, bytes), STORE_INVALID);
    ck_assert_int_eq(recall_keys_put(recall, 0, queries, bytes - 4), STORE_INVALID);
    ck_assert_int_eq(recall_keys_put(recall, 0, queries, bytes), STORE_OK);
    ck_assert_int_eq(recall_keys_put(recall, 0, queries, bytes), STORE_INVALID);
    queries_of(1)[HEAD_DIM] = NAN;
    ck_assert_int_eq(recall_keys_put(recall, 1, queries_of(1), bytes), STORE_INVALID);
    queries_of(1)[HEAD_DIM] = -INFINITY;
    ck_assert_int_eq(recall_keys_put(recall, 1, queries_of(1), bytes), STORE_INVALID);
    ck_assert_int_eq(recall_keys_step(recall), STORE_INCOMPLETE);
    recall_keys_end(recall);
}
END_TEST

START_TEST(queries_of_any_size_find_something) {
    static const float sizes[] = {0, 1e-40F, 1e12F};
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t j = 0; j < QUERY_VALUES; j++)
            queries[j] = j % 2 ? sizes[i] : -sizes[i];
        struct recall_keys *recall = recall_blocks(&fetch, 3);
        ck_assert_uint_eq(tokens_of(recall, 0, TOKENS), 3 * BLOCK);
        recall_keys_end(recall);
    }
}
END_TEST

START_TEST(a_session_without_summaries_says_so) {
    struct recall_keys *recall;
    const char *fault;
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, TOKENS, false);
    struct fetch fetch = fetch_of("a", 0, 0);
    struct recall_keys_request request = {.fetch = &fetch, .queries = QUERIES, .k = 1};
    ck_assert_int_eq(recall_keys_begin(&store, &request, &recall, &fault), STORE_UNSUPPORTED);
}
END_TEST

START_TEST(a_session_that_went_away_meanwhile_is_a_miss) {
    fill_queries();
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    struct recall_keys *recall = begin_recall(&fetch, 1);
    put_queries(recall);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    store_with_keys("a", TOKENS); /* another one */
    ck_assert_int_eq(recall_keys_step(recall), STORE_MISS);
    recall_keys_end(recall);
}
END_TEST

START_TEST(a_recall_gives_back_what_it_took) {
    fill_queries();
    store_with_keys("a", TOKENS);
    struct fetch fetch = fetch_of("a", 0, 0);
    uint64_t before = store_used_bytes(&store);
    struct recall_keys *recall = begin_recall(&fetch, 5);
    put_queries(recall);
    ck_assert_int_eq(recall_keys_step(recall), STORE_MORE);
    ck_assert_uint_gt(store_used_bytes(&store), before);
    recall_keys_end(recall); /* in the middle of it */
    recall_keys_end(recall_blocks(&fetch, 5));
    ck_assert_uint_eq(store_used_bytes(&store), before);
}
END_TEST

/* --- with a disk --- */

static bool all_is_spilled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    bool all = true;
    for (size_t i = 0; i < session->slice_count; i++) {
        struct record *record = chunk_pin(session->slices[i].chunk);
        all &= record_is_absent(record);
        record_unpin(record);
    }
    session_unref(session);
    return all;
}

START_TEST(what_is_on_disk_alone_is_found_without_reading_it) {
    fill_queries();
    store_with_keys("a", TOKENS);
    wait_for_keeper("a");
    while (!all_is_spilled("a"))
        (void)spill(&store, &store.coldness, 1 << 20, 0);
    struct fetch fetch = fetch_of("a", 0, 0);
    struct recall_keys *recall = recall_blocks(&fetch, 6);
    expect_best(recall, "a", 0, 6);
    recall_keys_end(recall);
    ck_assert_uint_eq(atomic_load(&store.disk.counts.loaded_chunks), 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("recall"), *disk = tcase_create("disk");
    Suite *suite = suite_create("recall by keys");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, the_best_blocks_are_chosen_in_their_order);
    tcase_add_test(cases, no_share_is_larger_than_one);
    tcase_add_test(cases, of_equal_blocks_the_first_are_chosen);
    tcase_add_loop_test(cases, each_layer_has_the_blocks_that_a_plain_reference_finds, 0,
                        KERNEL_TABLES_MAX);
    tcase_add_test(cases, keys_that_are_asked_for_are_found);
    tcase_add_test(cases, only_tokens_that_were_asked_for_are_found);
    tcase_add_test(cases, of_a_chunk_that_is_cut_only_what_is_left_is_found);
    tcase_add_test(cases, what_cannot_be_is_refused);
    tcase_add_test(cases, queries_that_are_none_of_a_layer_are_refused);
    tcase_add_test(cases, queries_of_any_size_find_something);
    tcase_add_test(cases, a_session_without_summaries_says_so);
    tcase_add_test(cases, a_session_that_went_away_meanwhile_is_a_miss);
    tcase_add_test(cases, a_recall_gives_back_what_it_took);
    tcase_add_checked_fixture(disk, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(disk, what_is_on_disk_alone_is_found_without_reading_it);
    tcase_set_timeout(cases, 60);
    tcase_set_timeout(disk, 60);
    suite_add_tcase(suite, cases);
    suite_add_tcase(suite, disk);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
