/* Pages and layers of kvq.h in a program's own memory: what goes in comes back, what cannot be is
 * refused. */
#include "client/c/kvq.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2, HEADS = 3, DIM = 16, PAGE = 32, TAIL = 10, ROOM = 16 };
enum { TOKENS = PAGE + TAIL, HEAD_VALUES = TOKENS * DIM, PART_VALUES = ROWS * HEADS * HEAD_VALUES };

/* A layer of exact pages and a tail, of values that float16 holds. */
struct fixture {
    float values[2][PART_VALUES]; /* [rows][heads][tokens][head_dim] */
    char pages[ROWS * 2][1 << 16];
    struct kvq_page_bytes stored[ROWS * 2];
    uint32_t page_tokens;
    char *tail[2];
    void *workspace;
    struct kvq_layer layer;
};

static float value_of(int i) {
    return (float)(i * 37 % 251 - 125) / 16;
}

static struct kvq_page_values values_at(struct fixture *fixture, int part, int row,
                                        uint32_t tokens) {
    return (struct kvq_page_values){.values = fixture->values[part] + row * HEADS * HEAD_VALUES,
                                    .dtype = KVQ_F32,
                                    .tokens = tokens,
                                    .heads = HEADS,
                                    .head_dim = DIM,
                                    .token_stride = DIM * sizeof(float),
                                    .head_stride = HEAD_VALUES * sizeof(float)};
}

static void encode(struct fixture *fixture, int level) {
    for (int i = 0; i < ROWS * 2; i++) {
        struct kvq_page_source source = {.values = values_at(fixture, i % 2, i / 2, PAGE),
                                         .part = (enum kvq_part)(i % 2),
                                         .level = level};
        ck_assert_uint_le(kvq_page_bound_bytes(&source.values), sizeof fixture->pages[i]);
        fixture->stored[i].page = fixture->pages[i];
        ck_assert_int_eq(kvq_page_encode(&source, fixture->workspace, fixture->pages[i],
                                         sizeof fixture->pages[i], &fixture->stored[i].bytes),
                         KVQ_OK);
    }
}

/* Tokens `first` on, of all rows. */
static void added_from(struct fixture *fixture, int first, struct kvq_layer_values added[2]) {
    for (int part = 0; part < 2; part++)
        added[part] = (struct kvq_layer_values){.values = fixture->values[part] + first * DIM,
                                                .row_stride = HEADS * HEAD_VALUES * sizeof(float),
                                                .head_stride = HEAD_VALUES * sizeof(float),
                                                .token_stride = DIM * sizeof(float)};
}

static struct fixture *layer_of(enum kvq_dtype tail_dtype) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    for (int i = 0; i < 2 * PART_VALUES; i++)
        fixture->values[i / PART_VALUES][i % PART_VALUES] = value_of(i);
    fixture->workspace = aligned_alloc(64, KVQ_PAGE_WORKSPACE_BYTES);
    encode(fixture, KVQ_LEVEL_EXACT);
    fixture->page_tokens = PAGE;
    size_t tail_bytes = ROWS * HEADS * ROOM * DIM * kvq_dtype_bytes(tail_dtype);
    for (int part = 0; part < 2; part++)
        fixture->tail[part] = malloc(tail_bytes); /* ends where it ends: sanitizers see more */
    fixture->layer = (struct kvq_layer){.rows = ROWS,
                                        .heads = HEADS,
                                        .head_dim = {DIM, DIM},
                                        .dtype = KVQ_F32,
                                        .page_count = 1,
                                        .pages = fixture->stored,
                                        .page_tokens = &fixture->page_tokens,
                                        .tail_dtype = tail_dtype,
                                        .tail = {fixture->tail[0], fixture->tail[1]},
                                        .tail_room = ROOM};
    return fixture;
}

static void layer_free(struct fixture *fixture) {
    free(fixture->tail[0]);
    free(fixture->tail[1]);
    free(fixture->workspace);
    free(fixture);
}

static float restored[2][PART_VALUES];

static void check_restored(const struct fixture *fixture) {
    for (int part = 0; part < 2; part++)
        ck_assert_mem_eq(restored[part], fixture->values[part], sizeof restored[part]);
}

START_TEST(a_step_restores_all_tokens) {
    struct fixture *fixture = layer_of(_i ? KVQ_F32 : KVQ_F16);
    void *const targets[] = {restored[0], restored[1]};
    struct kvq_layer_values added[2];
    added_from(fixture, PAGE, added);
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, TAIL - 1, added), KVQ_OK);
    added_from(fixture, TOKENS - 1, added);
    ck_assert_int_eq(kvq_layer_step(&fixture->layer, 1, added, targets, fixture->workspace),
                     KVQ_OK);
    ck_assert_uint_eq(fixture->layer.tail_tokens, TAIL);
    check_restored(fixture);
    memset(restored, 0, sizeof restored);
    ck_assert_int_eq(kvq_layer_restore(&fixture->layer, targets, fixture->workspace), KVQ_OK);
    check_restored(fixture);
    layer_free(fixture);
}
END_TEST

START_TEST(a_value_too_large_for_the_tail_changes_nothing) {
    struct fixture *fixture = layer_of(KVQ_F16);
    struct kvq_layer_values added[2];
    added_from(fixture, PAGE, added);
    fixture->values[1][PAGE * DIM + 5] = _i ? 65520.0f : -INFINITY;
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, 1, added), KVQ_TOO_LARGE);
    ck_assert_uint_eq(fixture->layer.tail_tokens, 0);
    fixture->values[1][PAGE * DIM + 5] = 65519.0f; /* rounds to the largest */
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, 1, added), KVQ_OK);
    layer_free(fixture);
}
END_TEST

START_TEST(more_tokens_than_the_tail_has_room_for_are_refused) {
    struct fixture *fixture = layer_of(KVQ_F16);
    struct kvq_layer_values added[2];
    added_from(fixture, 0, added);
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, ROOM + 1, added), KVQ_ARGUMENT);
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, ROOM, added), KVQ_OK);
    ck_assert_int_eq(kvq_layer_add(&fixture->layer, 1, added), KVQ_ARGUMENT);
    layer_free(fixture);
}
END_TEST

START_TEST(pages_of_another_shape_are_refused) {
    struct fixture *fixture = layer_of(KVQ_F16);
    void *const targets[] = {restored[0], restored[1]};
    fixture->page_tokens = PAGE + 1;
    ck_assert_int_eq(kvq_layer_restore(&fixture->layer, targets, fixture->workspace), KVQ_ARGUMENT);
    fixture->page_tokens = PAGE;
    fixture->layer.heads = HEADS - 1;
    ck_assert_int_eq(kvq_layer_restore(&fixture->layer, targets, fixture->workspace), KVQ_ARGUMENT);
    fixture->layer.heads = HEADS;
    fixture->layer.head_dim[1] = DIM / 2;
    ck_assert_int_eq(kvq_layer_restore(&fixture->layer, targets, fixture->workspace), KVQ_ARGUMENT);
    layer_free(fixture);
}
END_TEST

START_TEST(bytes_that_are_no_page_are_refused) {
    struct fixture *fixture = layer_of(KVQ_F16);
    void *const targets[] = {restored[0], restored[1]};
    struct kvq_page_values target = values_at(fixture, 0, 0, PAGE);
    struct kvq_page_info info;
    fixture->stored[0].bytes = 20;
    ck_assert_int_eq(kvq_layer_restore(&fixture->layer, targets, fixture->workspace), KVQ_INVALID);
    ck_assert_int_eq(kvq_page_info(fixture->pages[0], 20, &info), KVQ_INVALID);
    ck_assert_int_eq(kvq_page_decode(fixture->pages[0], 20, 0, &target, fixture->workspace),
                     KVQ_INVALID);
    layer_free(fixture);
}
END_TEST

START_TEST(a_page_tells_what_it_holds_and_gets_coarser) {
    struct fixture *fixture = layer_of(KVQ_F16);
    static char aged[1 << 16];
    size_t aged_bytes;
    struct kvq_page_info before, after;
    encode(fixture, 1);
    struct kvq_page_bytes page = fixture->stored[1];
    ck_assert_int_eq(kvq_page_info(page.page, page.bytes, &before), KVQ_OK);
    ck_assert_int_eq(before.part, KVQ_V);
    ck_assert_int_eq(before.level, 1);
    ck_assert_uint_eq(before.tokens * before.heads * before.head_dim, PAGE * HEADS * DIM);
    ck_assert_int_eq(kvq_page_age(page.page, page.bytes, 3, fixture->workspace, aged, &aged_bytes),
                     KVQ_OK);
    ck_assert_uint_lt(aged_bytes, page.bytes);
    ck_assert_int_eq(kvq_page_info(aged, aged_bytes, &after), KVQ_OK);
    ck_assert_int_eq(after.level, 3);
    ck_assert(after.loss.error > before.loss.error && after.loss.estimated);
    ck_assert_int_eq(kvq_page_age(aged, aged_bytes, 3, fixture->workspace, aged, &aged_bytes),
                     KVQ_ARGUMENT);
    layer_free(fixture);
}
END_TEST

START_TEST(a_part_of_a_page_is_decoded) {
    struct fixture *fixture = layer_of(KVQ_F16);
    struct kvq_page_values target = values_at(fixture, 0, 0, 3);
    static float found[HEADS][3][DIM];
    target.values = found;
    target.head_stride = sizeof found[0];
    ck_assert_int_eq(kvq_page_decode(fixture->stored[0].page, fixture->stored[0].bytes, 7, &target,
                                     fixture->workspace),
                     KVQ_OK);
    for (int head = 0; head < HEADS; head++)
        ck_assert_mem_eq(found[head], fixture->values[0] + head * HEAD_VALUES + 7 * DIM,
                         sizeof found[head]);
    layer_free(fixture);
}
END_TEST

START_TEST(strides_that_cut_values_are_refused) {
    struct fixture *fixture = layer_of(KVQ_F16);
    struct kvq_page_values target = values_at(fixture, 0, 0, PAGE);
    target.token_stride += 1;
    ck_assert_int_eq(kvq_page_decode(fixture->stored[0].page, fixture->stored[0].bytes, 0, &target,
                                     fixture->workspace),
                     KVQ_ARGUMENT);
    layer_free(fixture);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("layer");
    tcase_add_loop_test(tests, a_step_restores_all_tokens, 0, 2);
    tcase_add_loop_test(tests, a_value_too_large_for_the_tail_changes_nothing, 0, 2);
    tcase_add_test(tests, more_tokens_than_the_tail_has_room_for_are_refused);
    tcase_add_test(tests, pages_of_another_shape_are_refused);
    tcase_add_test(tests, bytes_that_are_no_page_are_refused);
    tcase_add_test(tests, a_page_tells_what_it_holds_and_gets_coarser);
    tcase_add_test(tests, a_part_of_a_page_is_decoded);
    tcase_add_test(tests, strides_that_cut_values_are_refused);
    Suite *suite = suite_create("client, layer");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
