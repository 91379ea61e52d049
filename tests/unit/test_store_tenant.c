/* Tenants: nothing of one is found by another. */
#include "daemon/store/match.h"
#include "tests/unit/test_store_block_support.h"
#include "tests/unit/test_store_disk_support.h"
#include "tests/unit/test_store_ids_support.h"
#include "tests/unit/test_store_takeover_support.h"

/* From here on the test is this tenant. */
static void become(const char *name) {
    store_tenant = tenants_find(&store.tenants, name, strlen(name));
    ck_assert_ptr_nonnull(store_tenant);
}

static void set_up_tenants(void) {
    set_up_with_disk();
    fill_ids(ids, 1);
}

static void tear_down_tenants(void) {
    store_tenant = NULL;
    tear_down_with_disk();
}

static void store_session(const char *name, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_ids(name, 0, tokens, ids);
}

static uint64_t match(void) {
    struct match_result result;
    struct match *match;
    struct match_request request = {.model = name_of("model"), .tokens = PAGE};
    ck_assert_int_eq(match_begin(&store, &request, &match), STORE_OK);
    ck_assert_int_eq(match_put_ids(match, 0, ids, PAGE * sizeof *ids), STORE_OK);
    ck_assert_int_eq(match_find(match, &result), STORE_OK);
    match_end(match);
    return result.tokens;
}

static size_t models(void) {
    struct model_capacity capacity[MODELS_MAX];
    return models_read(&store, store_tenant, capacity);
}

/* How many sessions are in the tenant's list. */
static int listed(void) {
    struct list *list = &store_tenant->sessions;
    int count = 0;
    for (struct session *session = list_after(list, 0); session; count++)
        session = list_next(list, session);
    return count;
}

START_TEST(a_name_is_another_session_with_each_tenant) {
    become("a");
    store_session("s", 100);
    become("b");
    ck_assert(!has_session("s"));
    ck_assert_int_eq(fetch_all("s", 0, 100, 0), STORE_MISS);
    ck_assert_int_eq(delete_session("s"), STORE_MISS);
    store_session("s", 50);
    ck_assert_uint_eq(info_of("s").state.tokens, 50);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    become("a");
    ck_assert_int_eq(fetch_all("s", 0, 100, 0), STORE_OK);
}
END_TEST

START_TEST(who_names_no_tenant_is_the_default) {
    store_session("s", 100);
    become("default");
    ck_assert_uint_eq(info_of("s").state.tokens, 100);
    become("a");
    ck_assert(!has_session("s"));
}
END_TEST

START_TEST(tokens_match_those_of_the_tenant_only) {
    become("a");
    store_session("s", PAGE);
    ck_assert_uint_eq(match(), PAGE);
    become("b");
    ck_assert_uint_eq(match(), 0);
}
END_TEST

START_TEST(a_key_is_another_block_with_each_tenant) {
    become("a");
    put_block("k", "", 0, BLOCK);
    become("b");
    ck_assert_uint_eq(exists("k"), 0);
    ck_assert(!gives("k", 0, BLOCK));
    ck_assert_uint_eq(delete ("k"), 0);
    put_block("k", "", BLOCK, BLOCK);
    ck_assert(gives("k", BLOCK, BLOCK));
    become("a");
    ck_assert(gives("k", 0, BLOCK));
}
END_TEST

START_TEST(a_list_and_the_models_are_of_one_tenant) {
    become("a");
    store_session("s", 10);
    store_session("t", 10);
    ck_assert_int_eq(listed(), 2);
    ck_assert_uint_eq(models(), 1);
    become("b");
    ck_assert_int_eq(listed(), 0);
    ck_assert_uint_eq(models(), 0);
}
END_TEST

/* What came back is as it was before. */
static void check_all(void) {
    become("a");
    ck_assert_int_eq(fetch_all("s", 0, 100, 0), STORE_OK);
    ck_assert_int_eq(listed(), 1);
    ck_assert(gives("k", 0, BLOCK));
    become("b");
    ck_assert_uint_eq(info_of("s").state.tokens, 50);
    ck_assert_uint_eq(exists("k"), 0);
    become("c");
    ck_assert(!has_session("s"));
    store_tenant = NULL;
    ck_assert(!has_session("s"));
}

static void store_all(void) {
    become("a");
    store_session("s", 100);
    put_block("k", "", 0, BLOCK);
    become("b");
    store_session("s", 50);
}

START_TEST(on_disk_they_stay_apart) {
    store_all();
    restart();
    check_all();
}
END_TEST

START_TEST(in_a_pool_that_is_taken_over_they_stay_apart) {
    store_all();
    hand_on();
    check_all();
}
END_TEST

START_TEST(a_name_being_deleted_on_disk_is_free_with_others) {
    become("a");
    store_session("s", 100);
    struct session *session = store_find(&store, name_of("s"));
    struct session_names names = {.tenant = session->tenant, .session = "s", .session_bytes = 1};
    struct session_discard *discard;
    flush_session(session);
    session_unref(session);
    ck_assert_int_eq(store_delete(&store, name_of("s"), &discard), STORE_OK);
    ck_assert_ptr_nonnull(discard->deleted_on_disk);
    while (session_discard_step(discard))
        ;
    become("b");
    names.tenant = store_tenant;
    ck_assert_int_eq(disk_tier_admit(&store.disk, &names), STORE_OK);
    session_discard_free(discard);
}
END_TEST

START_TEST(names_of_tenants_are_plain) {
    char long_name[TENANT_NAME_BYTES_MAX + 1];
    memset(long_name, 'a', sizeof long_name);
    ck_assert(tenant_is_name("team-1.chat_B", 13));
    ck_assert(tenant_is_name(long_name, sizeof long_name - 1));
    ck_assert(!tenant_is_name(long_name, sizeof long_name));
    ck_assert(!tenant_is_name("", 0));
    ck_assert(!tenant_is_name("a b", 3));
    ck_assert(!tenant_is_name("a/b", 3));
    ck_assert_ptr_null(tenants_find(&store.tenants, "a\n", 2));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("tenant");
    tcase_add_checked_fixture(cases, set_up_tenants, tear_down_tenants);
    tcase_add_test(cases, a_name_is_another_session_with_each_tenant);
    tcase_add_test(cases, who_names_no_tenant_is_the_default);
    tcase_add_test(cases, tokens_match_those_of_the_tenant_only);
    tcase_add_test(cases, a_key_is_another_block_with_each_tenant);
    tcase_add_test(cases, a_list_and_the_models_are_of_one_tenant);
    tcase_add_test(cases, on_disk_they_stay_apart);
    tcase_add_test(cases, in_a_pool_that_is_taken_over_they_stay_apart);
    tcase_add_test(cases, a_name_being_deleted_on_disk_is_free_with_others);
    tcase_add_test(cases, names_of_tenants_are_plain);
    return run_suite(cases);
}
