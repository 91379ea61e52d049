/* Rows of the caller's memory: merged where they touch, in the wire's order, whatever the strides.
 */
#include "client/c/rows.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 6, HEADS = 3, DIM_BYTES = 8, ROW_BYTES = HEADS * DIM_BYTES };

static struct kvq_strides packed_tokens(void) {
    return kvq_resolve_strides((struct kvq_strides){0}, TOKENS, HEADS, DIM_BYTES);
}

static struct kvq_strides packed_heads(void) {
    return (struct kvq_strides){.token = DIM_BYTES, .head = TOKENS * DIM_BYTES};
}

START_TEST(strides_left_0_are_those_of_packed_layers_tokens_heads) {
    struct kvq_strides strides = packed_tokens();
    ck_assert_int_eq(strides.layer, TOKENS * ROW_BYTES);
    ck_assert_int_eq(strides.token, ROW_BYTES);
    ck_assert_int_eq(strides.head, DIM_BYTES);
}
END_TEST

START_TEST(the_wire_has_the_order_in_which_rows_are_longest) {
    struct kvq_strides gaps = {.token = 2 * ROW_BYTES, .head = 2 * DIM_BYTES};
    ck_assert_int_eq(kvq_best_layout(packed_tokens(), HEADS, DIM_BYTES), KVQ_TOKENS_HEADS_DIM);
    ck_assert_int_eq(kvq_best_layout(packed_heads(), HEADS, DIM_BYTES), KVQ_HEADS_TOKENS_DIM);
    ck_assert_int_eq(kvq_best_layout(packed_heads(), 1, DIM_BYTES), KVQ_TOKENS_HEADS_DIM);
    ck_assert_int_eq(kvq_best_layout(gaps, HEADS, DIM_BYTES), KVQ_TOKENS_HEADS_DIM);
}
END_TEST

START_TEST(packed_values_are_one_row_in_their_own_order) {
    char values[TOKENS * ROW_BYTES];
    struct iovec pieces[KVQ_PIECES_MAX];
    struct kvq_rows rows =
        kvq_rows_of(values, KVQ_TOKENS_HEADS_DIM, packed_tokens(), TOKENS, HEADS, DIM_BYTES);
    ck_assert_uint_eq(kvq_rows_pieces(&rows, pieces), 1);
    ck_assert_uint_eq(pieces[0].iov_len, sizeof values);
    rows = kvq_rows_of(values, KVQ_HEADS_TOKENS_DIM, packed_heads(), TOKENS, HEADS, DIM_BYTES);
    ck_assert_uint_eq(kvq_rows_pieces(&rows, pieces), 1);
    ck_assert_ptr_eq(pieces[0].iov_base, values);
}
END_TEST

START_TEST(a_part_of_the_tokens_is_one_row_a_head) {
    char values[TOKENS * ROW_BYTES];
    struct iovec pieces[KVQ_PIECES_MAX];
    struct kvq_rows rows =
        kvq_rows_of(values, KVQ_HEADS_TOKENS_DIM, packed_heads(), 2, HEADS, DIM_BYTES);
    ck_assert_uint_eq(kvq_rows_pieces(&rows, pieces), HEADS);
    for (size_t i = 0; i < HEADS; i++) {
        ck_assert_ptr_eq(pieces[i].iov_base, values + i * TOKENS * DIM_BYTES);
        ck_assert_uint_eq(pieces[i].iov_len, 2 * DIM_BYTES);
    }
}
END_TEST

START_TEST(few_rows_are_at_most_the_pieces_there_is_room_for) {
    char byte;
    struct kvq_strides gaps = {.token = 1000, .head = 100};
    struct kvq_rows rows = kvq_rows_of(&byte, KVQ_TOKENS_HEADS_DIM, gaps, KVQ_PIECES_MAX, 1, 8);
    ck_assert(kvq_rows_are_few(&rows));
    rows = kvq_rows_of(&byte, KVQ_TOKENS_HEADS_DIM, gaps, KVQ_PIECES_MAX + 1, 1, 8);
    ck_assert(!kvq_rows_are_few(&rows));
    rows = kvq_rows_of(&byte, KVQ_TOKENS_HEADS_DIM, gaps, 128, 8192, 8);
    ck_assert(!kvq_rows_are_few(&rows));
}
END_TEST

enum { TOKEN_STRIDE = 50, HEAD_STRIDE = 16, SPREAD_BYTES = TOKENS * TOKEN_STRIDE };

static char value_of(size_t token, size_t head, size_t byte) {
    return (char)(100 + token * 20 + head * 5 + byte % 5);
}

/* Calls put for each byte of each value. */
static void for_each(void (*put)(char *memory, size_t t, size_t h, size_t b), char *memory) {
    for (size_t i = 0; i < (size_t)TOKENS * HEADS * DIM_BYTES; i++)
        put(memory, i / ROW_BYTES, i / DIM_BYTES % HEADS, i % DIM_BYTES);
}

/* Memory that runs from the last token to the first, with gaps. */
static void put_spread(char *memory, size_t t, size_t h, size_t b) {
    memory[(TOKENS - 1 - t) * TOKEN_STRIDE + h * HEAD_STRIDE + b] = value_of(t, h, b);
}

static void put_tokens_heads(char *memory, size_t t, size_t h, size_t b) {
    memory[t * ROW_BYTES + h * DIM_BYTES + b] = value_of(t, h, b);
}

static void put_heads_tokens(char *memory, size_t t, size_t h, size_t b) {
    memory[(h * TOKENS + t) * DIM_BYTES + b] = value_of(t, h, b);
}

START_TEST(gathering_and_scattering_undo_each_other_over_gaps_and_backwards) {
    enum kvq_layout layout = (enum kvq_layout)_i;
    char spread[SPREAD_BYTES] = {0}, back[SPREAD_BYTES] = {0}, expected[TOKENS * ROW_BYTES];
    uint8_t packed[TOKENS * ROW_BYTES];
    const size_t first = (size_t)(TOKENS - 1) * TOKEN_STRIDE;
    struct kvq_strides strides = {.token = -TOKEN_STRIDE, .head = HEAD_STRIDE};
    for_each(put_spread, spread);
    for_each(layout == KVQ_TOKENS_HEADS_DIM ? put_tokens_heads : put_heads_tokens, expected);
    struct kvq_rows rows = kvq_rows_of(spread + first, layout, strides, TOKENS, HEADS, DIM_BYTES);
    kvq_rows_gather(&rows, packed);
    ck_assert_mem_eq(packed, expected, sizeof packed);
    rows.base = back + first;
    kvq_rows_scatter(&rows, packed);
    ck_assert_mem_eq(back, spread, sizeof back);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rows");
    TCase *tests = tcase_create("rows");
    tcase_add_test(tests, strides_left_0_are_those_of_packed_layers_tokens_heads);
    tcase_add_test(tests, the_wire_has_the_order_in_which_rows_are_longest);
    tcase_add_test(tests, packed_values_are_one_row_in_their_own_order);
    tcase_add_test(tests, a_part_of_the_tokens_is_one_row_a_head);
    tcase_add_test(tests, few_rows_are_at_most_the_pieces_there_is_room_for);
    tcase_add_loop_test(tests, gathering_and_scattering_undo_each_other_over_gaps_and_backwards, 0,
                        2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
