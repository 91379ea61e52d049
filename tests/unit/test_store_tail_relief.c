/* What becomes of raw tails when memory runs short. */
#include "daemon/base/clock.h"
#include "daemon/store/pressure.h"
#include "tests/unit/test_store_support.h"

enum { TAIL = 100 };

static void store_with_tail(const char *name, int level) {
    ck_assert_int_eq(open_session(name, level), STORE_OK);
    store_tokens(name, 0, PAGE + TAIL, false);
    leave_idle(name);
}

/* The keeper finds so much of the limit left, until told otherwise. What takes it. */
static uint64_t leave_free(uint64_t bytes) {
    uint64_t limit = atomic_load(&store.budget.limit_bytes);
    uint64_t taken = limit - store_used_bytes(&store) - bytes;
    ck_assert(budget_reserve(&store.budget, taken));
    keeper_poke(&store.keeper);
    return taken;
}

/* As the keeper does. */
static bool make_room(void) {
    return pressure_spill(&store.pressure) || pressure_evict(&store.pressure);
}

static void await_coded_tail(const char *name) {
    while (!info_of(name).tail_coded)
        wait_step();
}

START_TEST(nobody_loses_tokens_while_a_raw_tail_can_be_coded) {
    store_with_tail("a", PAGE_EXACT);
    store_with_tail("b", PAGE_EXACT);
    take_over_from_keeper();
    ck_assert(make_room());
    ck_assert(info_of("a").tail_coded);
    ck_assert(info_of("b").tail_coded);
    ck_assert_int_eq(fetch_all("a", 0, PAGE + TAIL, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, PAGE + TAIL, 0), STORE_OK);
    ck_assert_uint_eq(atomic_load(&store.pressure.stats.coded_tails), 2);
    ck_assert_uint_gt(atomic_load(&store.pressure.stats.coded_tail_bytes), 0);
    leave_idle("a");
    ck_assert(make_room());
    ck_assert_uint_eq(info_of("a").state.tokens, PAGE);
}
END_TEST

START_TEST(a_tail_is_coded_exactly_before_time_would_code_it) {
    ageing_set_tails(&store.ageing, 0, PAGE_FAST8);
    store_with_tail("a", 3);
    take_over_from_keeper();
    ck_assert(make_room());
    ck_assert_int_eq(info_of("a").tail_level, PAGE_EXACT);
    ck_assert_int_eq(fetch_all("a", PAGE, PAGE + TAIL, 0), STORE_OK);
}
END_TEST

START_TEST(at_the_limit_a_tail_is_coded_into_its_own_place) {
    store_with_tail("a", PAGE_EXACT);
    pin_session("a");
    uint64_t taken = leave_free(0);
    await_coded_tail("a");
    budget_release(&store.budget, taken);
    ck_assert_int_eq(fetch_all("a", 0, PAGE + TAIL, 0), STORE_OK);
    ck_assert_uint_eq(atomic_load(&store.usage.tails_bytes), 0);
}
END_TEST

static const struct chunk *coded_tail_of(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    const struct chunk *chunk = session->coded_tail.chunk;
    session_unref(session);
    return chunk;
}

START_TEST(a_tail_that_forks_have_is_coded_once_for_all_of_them) {
    store_with_tail("a", PAGE_EXACT);
    ck_assert_int_eq(fork_session("a", "fork", 0), STORE_OK);
    leave_idle("a");
    leave_idle("fork");
    take_over_from_keeper();
    uint64_t before = store_used_bytes(&store);
    ck_assert(make_room());
    ck_assert_ptr_nonnull(coded_tail_of("a"));
    ck_assert_ptr_eq(coded_tail_of("a"), coded_tail_of("fork"));
    ck_assert_uint_lt(store_used_bytes(&store), before);
    ck_assert_int_eq(fetch_all("fork", 0, PAGE + TAIL, 0), STORE_OK);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("tail relief");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, nobody_loses_tokens_while_a_raw_tail_can_be_coded);
    tcase_add_test(cases, a_tail_is_coded_exactly_before_time_would_code_it);
    tcase_add_test(cases, at_the_limit_a_tail_is_coded_into_its_own_place);
    tcase_add_test(cases, a_tail_that_forks_have_is_coded_once_for_all_of_them);
    return run_suite(cases);
}
