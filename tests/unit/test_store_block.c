/* Blocks: what a key gives when its chain is cut, deleted or continued. */
#include "daemon/store/block_get.h"
#include "daemon/store/block_put.h"
#include "daemon/store/evict.h"
#include "tests/unit/test_store_support.h"

enum { BLOCK = 64 };

static struct block_key key_of(const char *text) {
    return (struct block_key){.model = "model",
                              .model_bytes = strlen("model"),
                              .text = text,
                              .text_bytes = strlen(text),
                              .geometry = &geometry};
}

static int begin_put(const char *key, const char *parent, uint32_t tokens, struct block_put **put) {
    struct block_put_request request = {.key = key_of(key),
                                        .parent = parent,
                                        .parent_bytes = strlen(parent),
                                        .tokens = tokens,
                                        .policy = {.level = PAGE_EXACT, .floor = PAGE_EXACT},
                                        .runs_max = 64};
    return block_put_begin(&store, &request, put);
}

/* All parts, which have the values of so many tokens from `first` on. */
static void send(struct block_put *put, uint64_t first, uint32_t tokens) {
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct append_part piece = {.tokens = tokens,
                                        .layer = layer,
                                        .part = part,
                                        .values = values + first * ROW_VALUES,
                                        .bytes = tokens * ROW_VALUES * sizeof(float)};
            ck_assert_int_eq(block_put_part(put, &piece, workspace), STORE_OK);
        }
}

static void put_block(const char *key, const char *parent, uint64_t first, uint32_t tokens) {
    struct block_put *put;
    ck_assert_int_eq(begin_put(key, parent, tokens, &put), STORE_OK);
    send(put, first, tokens);
    ck_assert_int_eq(block_put_commit(put, workspace), STORE_OK);
    block_put_end(put);
}

/* Blocks "0", "1", ... behind each other. */
static void put_chain(int count) {
    char key[] = "0", parent[] = "0";
    for (int i = 0; i < count; i++) {
        key[0] = (char)('0' + i);
        put_block(key, i > 0 ? parent : "", (uint64_t)i * BLOCK, BLOCK);
        parent[0] = key[0];
    }
}

/* The session that has the block; a reference. */
static struct session *chain_of(const char *key) {
    struct block_key wanted = key_of(key);
    struct block_place place;
    ck_assert_int_eq(block_find(&store.blocks, &wanted, &place), STORE_OK);
    return place.session;
}

static void evict(const char *key, uint64_t want_bytes) {
    struct session *session = chain_of(key);
    struct evict_request request = {.want_bytes = want_bytes};
    struct evict_result result;
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_OK);
    session_unref(session);
}

static uint32_t exists(const char *key) {
    struct block_key wanted = key_of(key);
    return block_act(&store, &wanted, BLOCK_EXISTS, 0);
}

static void check_values(const struct fetch_piece *pieces, size_t count, uint64_t first) {
    const float *at = got;
    for (size_t i = 0; i < count; i++) {
        ck_assert_mem_eq(at, values + (first + pieces[i].first) * ROW_VALUES, pieces[i].bytes);
        at += pieces[i].bytes / sizeof *at;
    }
}

/* Whether the block is a hit; it then has the values of tokens from `first` on. */
static bool gives(const char *key, uint64_t first, uint32_t tokens) {
    struct store_name wanted = {key, strlen(key)};
    struct block_get_request request = {.model = name_of("model"),
                                        .geometry = &geometry,
                                        .keys = &wanted,
                                        .key_count = 1,
                                        .tokens = tokens};
    struct block_get *get;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    ck_assert_int_eq(block_get_begin(&store, &request, &get), STORE_OK);
    while (block_get_next(get, &got_room, workspace, pieces, &count) == STORE_MORE)
        check_values(pieces, count, first);
    bool hit = get->keys[0].is_hit;
    block_get_end(get);
    return hit;
}

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

START_TEST(a_leased_block_is_not_evicted) {
    struct block_key key = key_of("0");
    put_chain(2);
    ck_assert_uint_eq(block_act(&store, &key, BLOCK_EXISTS, UINT64_C(1) << 50), BLOCK);
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
    block_act(&store, &key, BLOCK_EXISTS, UINT64_C(1) << 50);
    struct session *session = chain_of("0");
    uint64_t until = session->pinned_until_ns;
    block_act(&store, &key, BLOCK_EXISTS, 1);
    block_act(&store, &key, BLOCK_TOUCH, 0);
    ck_assert_uint_eq(session->pinned_until_ns, until);
    session_unref(session);
}
END_TEST

START_TEST(all_memory_is_free_when_all_blocks_are) {
    put_chain(9);
    for (char key[] = "0"; key[0] < '9'; key[0]++) {
        struct block_key wanted = key_of(key);
        ck_assert_uint_eq(block_act(&store, &wanted, BLOCK_DELETE, 0), BLOCK);
    }
    ck_assert_uint_eq(store.usage.chains, 0);
    ck_assert_uint_eq(store.usage.tokens, 0);
    for (int i = 0; i < 1000 && store.usage.pages_bytes + store.usage.tails_bytes > 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* the keeper frees it */
    ck_assert_uint_eq(store.usage.pages_bytes + store.usage.tails_bytes, 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("block");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_evicted_block_is_gone_and_those_before_it_are_there);
    tcase_add_test(cases, a_block_half_of_which_was_evicted_is_gone);
    tcase_add_test(cases, what_comes_behind_a_cut_is_never_taken_for_what_was_there);
    tcase_add_test(cases, with_the_last_of_its_tokens_a_chain_leaves_nothing);
    tcase_add_test(cases, a_chain_that_goes_away_while_it_is_put_to_takes_the_block_along);
    tcase_add_test(cases, a_second_child_is_put_while_the_first_is);
    tcase_add_test(cases, a_leased_block_is_not_evicted);
    tcase_add_test(cases, a_longer_lease_outlives_a_shorter_one);
    tcase_add_test(cases, all_memory_is_free_when_all_blocks_are);
    return run_suite(cases);
}
