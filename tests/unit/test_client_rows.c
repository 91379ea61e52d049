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

/* Value (token, head) of the packed block, for memory that has tokens backwards and gaps. */
static char expected(size_t token, size_t head, size_t byte) {
    return (char)(100 + token * 20 + head * 5 + byte % 5);
}

START_TEST(gathering_and_scattering_undo_each_other_over_gaps_and_backwards) {
    enum { TOKEN_STRIDE = 50, HEAD_STRIDE = 16 };
    char values[TOKENS * TOKEN_STRIDE], back[TOKENS * TOKEN_STRIDE];
    uint8_t packed[TOKENS * ROW_BYTES];
    struct kvq_strides strides = {.token = -TOKEN_STRIDE, .head = HEAD_STRIDE};
    const size_t last = (TOKENS - 1) * TOKEN_STRIDE;
    memset(values, 0, sizeof values);
    memset(back, 0, sizeof back);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t h = 0; h < HEADS; h++)
            for (size_t b = 0; b < DIM_BYTES; b++)
                values[last - t * TOKEN_STRIDE + h * HEAD_STRIDE + b] = expected(t, h, b);
    for (int layout = KVQ_TOKENS_HEADS_DIM; layout <= KVQ_HEADS_TOKENS_DIM; layout++) {
        struct kvq_rows rows =
            kvq_rows_of(values + last, (enum kvq_layout)layout, strides, TOKENS, HEADS, DIM_BYTES);
        kvq_rows_gather(&rows, packed);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t h = 0; h < HEADS; h++) {
                size_t at = layout == KVQ_TOKENS_HEADS_DIM ? t * HEADS + h : h * TOKENS + t;
                for (size_t b = 0; b < DIM_BYTES; b++)
                    ck_assert_int_eq((char)packed[at * DIM_BYTES + b], expected(t, h, b));
            }
        rows.base = back + last;
        kvq_rows_scatter(&rows, packed);
        ck_assert_mem_eq(back, values, sizeof values);
    }
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
    tcase_add_test(tests, gathering_and_scattering_undo_each_other_over_gaps_and_backwards);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
