/* Blocks: what a key gives when its chain is cut, deleted or continued. */
#include "tests/unit/test_store_block_support.h"

START_TEST(what_a_model_takes_is_measured_on_blocks_too) {
    struct model_capacity capacity[MODELS_MAX];
    put_chain(PAGE / BLOCK);
    ck_assert_uint_eq(models_read(&store, NULL, capacity), 1);
    ck_assert_double_gt(store.tenants.standard.models.known[0].bits[PAGE_EXACT - PAGE_LEVEL_MIN],
                        0);
}
END_TEST

START_TEST(an_evicted_block_is_gone_and_those_before_it_are_there) {
    put_chain(6);
    evict("0", 1);
    ck_assert(gives("0", 0, BLOCK));
    ck_assert(gives("3", 3 * (uint64_t)BLOCK, BLOCK));
    ck_assert(!gives("4", 4 * (uint64_t)BLOCK, BLOCK));
    ck_assert_uint_eq(exists("5"), 0);
    ck_assert_uint_eq(store.blocks.blocks, 4);
    ck_assert_uint_eq(store.blocks.lost, 2);
}
END_TEST

START_TEST(a_block_half_of_which_was_evicted_is_gone) {
    put_block("a", "", 0, 2 * PAGE);
    evict("a", 1);
    ck_assert(!gives("a", 0, 2 * PAGE));
    ck_assert_uint_eq(exists("a"), 0);
    ck_assert_uint_eq(store.usage.chains, 0);
}
END_TEST

START_TEST(what_comes_behind_a_cut_is_never_taken_for_what_was_there) {
    put_chain(6);
    evict("0", 1);
    put_block("new", "3", 8 * BLOCK, BLOCK);
    ck_assert(gives("new", 8 * BLOCK, BLOCK));
    ck_assert_uint_eq(exists("4"), 0);
    ck_assert_uint_eq(store.usage.chains, 2);
    ck_assert(gives("3", 3 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(a_block_of_several_pages_is_put_behind_one_in_the_middle_of_a_page) {
    put_block("a", "", 0, 16);
    put_block("b", "a", 16, 16);
    put_block("long", "a", BLOCK, PAGE + BLOCK);
    ck_assert(gives("long", BLOCK, PAGE + BLOCK));
}
END_TEST

START_TEST(with_the_last_of_its_tokens_a_chain_leaves_nothing) {
    put_chain(6);
    evict("0", UINT64_MAX);
    ck_assert_uint_eq(store.blocks.blocks, 0);
    ck_assert_uint_eq(store.usage.chains, 0);
    put_chain(6);
    ck_assert(gives("5", 5 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(a_chain_that_goes_away_while_it_is_put_to_takes_the_block_along) {
    struct block_put *put;
    struct session_discard *discard;
    put_chain(1);
    ck_assert_int_eq(begin_put("1", "0", BLOCK, &put), STORE_OK);
    send(put, BLOCK, BLOCK);
    struct session *session = chain_of("0");
    ck_assert_int_eq(store_delete_session(&store, session, NULL, &discard), STORE_OK);
    keeper_discard(&store.keeper, &discard->discard);
    session_unref(session);
    ck_assert_int_eq(block_put_commit(put, workspace), STORE_MISS);
    block_put_end(put);
    ck_assert_uint_eq(exists("0") + exists("1"), 0);
    put_chain(2);
    ck_assert(gives("1", BLOCK, BLOCK));
}
END_TEST

START_TEST(a_second_child_is_put_while_the_first_is) {
    struct block_put *first, *second;
    put_chain(1);
    ck_assert_int_eq(begin_put("1", "0", BLOCK, &first), STORE_OK);
    ck_assert_int_eq(begin_put("2", "0", BLOCK, &second), STORE_OK);
    send(first, BLOCK, BLOCK);
    send(second, 2 * (uint64_t)BLOCK, BLOCK);
    ck_assert_int_eq(block_put_commit(second, workspace), STORE_OK);
    ck_assert_uint_eq(exists("1"), 0);
    ck_assert_int_eq(block_put_commit(first, workspace), STORE_OK);
    block_put_end(first);
    block_put_end(second);
    ck_assert(gives("1", BLOCK, BLOCK));
    ck_assert(gives("2", 2 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

/* A get of block "1", of which a part was sent. */
static struct block_get *begin_get(void) {
    static const struct store_name wanted = {.text = "1", .bytes = 1};
    struct block_get_request request = {.model = name_of("model"),
                                        .geometry = &geometry,
                                        .keys = &wanted,
                                        .key_count = 1,
                                        .tokens = BLOCK};
    struct block_get *get;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    ck_assert_int_eq(block_get_begin(&store, &request, &get), STORE_OK);
    ck_assert_int_eq(block_get_next(get, &got_room, workspace, pieces, &count), STORE_MORE);
    return get;
}

static bool end_get(struct block_get *get) {
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    while (block_get_next(get, &got_room, workspace, pieces, &count) == STORE_MORE)
        ;
    bool hit = get->keys[0].is_hit;
    ck_assert_uint_eq(get->hits, hit);
    block_get_end(get);
    return hit;
}

START_TEST(a_block_that_stands_until_all_of_it_was_sent_is_a_hit) {
    put_chain(3);
    struct block_get *get = begin_get();
    ck_assert_uint_eq(delete ("2"), BLOCK);
    ck_assert(end_get(get));
}
END_TEST

START_TEST(a_block_that_is_deleted_while_it_is_sent_is_no_hit) {
    put_chain(3);
    struct block_get *get = begin_get();
    ck_assert_uint_eq(delete ("1"), BLOCK); /* whose tokens stay in front of the next one's */
    ck_assert(!end_get(get));
}
END_TEST

START_TEST(a_block_that_is_put_anew_while_it_is_sent_is_no_hit) {
    put_chain(3);
    struct block_get *get = begin_get();
    ck_assert_uint_eq(delete ("1"), BLOCK);
    put_block("1", "0", 9 * (uint64_t)BLOCK, BLOCK);
    ck_assert(!end_get(get));
    ck_assert(gives("1", 9 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(a_leased_block_is_not_evicted) {
    struct block_key key = key_of("0");
    put_chain(2);
    ck_assert_uint_eq(block_exists(&store, &key, false, UINT64_C(1) << 50), BLOCK);
    struct session *session = chain_of("0");
    struct evict_request request = {.want_bytes = UINT64_MAX};
    struct evict_result result;
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_BUSY);
    session_unref(session);
}
END_TEST

START_TEST(a_longer_lease_outlives_a_shorter_one) {
    struct block_key key = key_of("0");
    put_chain(1);
    block_exists(&store, &key, false, UINT64_C(1) << 50);
    struct session *session = chain_of("0");
    uint64_t until = session->pinned_until_ns;
    block_exists(&store, &key, false, 1);
    block_exists(&store, &key, true, 0);
    ck_assert_uint_eq(session->pinned_until_ns, until);
    session_unref(session);
}
END_TEST

START_TEST(tails_of_blocks_that_are_there_are_coded_once_that_is_wanted) {
    put_block("0", "", 0, BLOCK);
    ck_assert_uint_eq(store.usage.tail_tokens, BLOCK);
    ageing_set_tails(&store.ageing, 1, PAGE_EXACT);
    for (int i = 0; i < WAIT_STEPS && store.usage.tail_tokens > 0; i++)
        wait_step(); /* the keeper codes it */
    ck_assert_uint_eq(store.usage.tail_tokens, 0);
    ck_assert(gives("0", 0, BLOCK));
}
END_TEST

START_TEST(all_memory_is_free_when_all_blocks_are) {
    put_chain(9);
    for (char key[] = "0"; key[0] < '9'; key[0]++) {
        ck_assert_uint_eq(delete (key), BLOCK);
    }
    ck_assert_uint_eq(store.usage.chains, 0);
    ck_assert_uint_eq(store.usage.tokens, 0);
    for (int i = 0; i < WAIT_STEPS && store.usage.pages_bytes + store.usage.tails_bytes > 0; i++)
        wait_step(); /* the keeper frees it */
    ck_assert_uint_eq(store.usage.pages_bytes + store.usage.tails_bytes, 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("block");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, what_a_model_takes_is_measured_on_blocks_too);
    tcase_add_test(cases, an_evicted_block_is_gone_and_those_before_it_are_there);
    tcase_add_test(cases, a_block_half_of_which_was_evicted_is_gone);
    tcase_add_test(cases, what_comes_behind_a_cut_is_never_taken_for_what_was_there);
    tcase_add_test(cases, a_block_of_several_pages_is_put_behind_one_in_the_middle_of_a_page);
    tcase_add_test(cases, with_the_last_of_its_tokens_a_chain_leaves_nothing);
    tcase_add_test(cases, a_chain_that_goes_away_while_it_is_put_to_takes_the_block_along);
    tcase_add_test(cases, a_second_child_is_put_while_the_first_is);
    tcase_add_test(cases, a_block_that_stands_until_all_of_it_was_sent_is_a_hit);
    tcase_add_test(cases, a_block_that_is_deleted_while_it_is_sent_is_no_hit);
    tcase_add_test(cases, a_block_that_is_put_anew_while_it_is_sent_is_no_hit);
    tcase_add_test(cases, a_leased_block_is_not_evicted);
    tcase_add_test(cases, a_longer_lease_outlives_a_shorter_one);
    tcase_add_test(cases, tails_of_blocks_that_are_there_are_coded_once_that_is_wanted);
    tcase_add_test(cases, all_memory_is_free_when_all_blocks_are);
    return run_suite(cases);
}
