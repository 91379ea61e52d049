/* Quotas of the disk: what a tenant has there is charged to it alone, and what is too much goes. */
#include "daemon/store/spill.h"
#include "tests/unit/test_store_quota_support.h"

static void set_up_tenants(void) {
    set_up_with_disk();
    find_tenants();
}

static void tear_down_tenants(void) {
    store_tenant = NULL;
    tear_down_with_disk();
}

static void limit_disk(uint64_t bytes) {
    struct tenant_limits limits = no_limits();
    limits.disk_bytes = bytes;
    limit_greedy(limits);
}

static uint64_t used_on_disk(const struct tenant *tenant) {
    return atomic_load(&tenant->disk_bytes.used);
}

static void spill_all(void) {
    while (spill(&store, &store.coldness, UINT64_MAX / 2, 0))
        await_disk();
}

START_TEST(what_is_on_disk_is_charged_until_it_is_deleted) {
    take_over_from_keeper();
    store_exactly("s", 2 * PAGE);
    spill_all();
    ck_assert_uint_gt(used_on_disk(greedy), CHUNK_BYTES);
    ck_assert_uint_eq(used_on_disk(calm), 0);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    ck_assert_uint_eq(used_on_disk(greedy), 0);
}
END_TEST

START_TEST(at_its_quota_of_the_disk_a_tenant_loses_what_is_coldest_of_its_own) {
    take_over_from_keeper();
    store_tenant = calm;
    store_exactly("cold", 2 * PAGE);
    spill_all();
    store_tenant = greedy;
    uint64_t limit = 5 * CHUNK_BYTES;
    limit_disk(limit);
    store_exactly("first", 4 * PAGE);
    spill_all();
    store_exactly("second", 4 * PAGE);
    spill_all();
    ck_assert_uint_le(used_on_disk(greedy), limit);
    ck_assert_int_eq(fetch_all("first", 0, 4 * PAGE, 0), STORE_MISS);
    store_tenant = calm;
    ck_assert_int_eq(fetch_all("cold", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(a_quota_of_the_disk_that_is_lowered_is_come_below) {
    take_over_from_keeper();
    store_exactly("first", 4 * PAGE);
    store_exactly("second", 4 * PAGE);
    spill_all();
    uint64_t limit = used_on_disk(greedy) / 2;
    limit_disk(limit);
    while (spill_relieve_disk(&store))
        ;
    ck_assert_uint_le(used_on_disk(greedy), limit);
}
END_TEST

START_TEST(after_a_restart_all_is_charged_again_and_nothing_that_is_gone) {
    store_exactly("s", 2 * PAGE);
    store_exactly("gone", 2 * PAGE);
    ck_assert_int_eq(delete_session("gone"), STORE_OK);
    restart();
    find_tenants();
    ck_assert_uint_eq(atomic_load(&greedy->session_count.used), 1);
    ck_assert_uint_gt(used_on_disk(greedy), CHUNK_BYTES);
    ck_assert_uint_gt(used(greedy), 0);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    wait_until_nothing_is_charged(greedy);
    ck_assert_uint_eq(used_on_disk(greedy), 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("quota_disk");
    tcase_add_checked_fixture(cases, set_up_tenants, tear_down_tenants);
    tcase_add_test(cases, what_is_on_disk_is_charged_until_it_is_deleted);
    tcase_add_test(cases, at_its_quota_of_the_disk_a_tenant_loses_what_is_coldest_of_its_own);
    tcase_add_test(cases, a_quota_of_the_disk_that_is_lowered_is_come_below);
    tcase_add_test(cases, after_a_restart_all_is_charged_again_and_nothing_that_is_gone);
    return run_suite(cases);
}
