/* Who loses tokens when memory runs short. */
#include "daemon/store/fork.h"
#include "daemon/store/pressure.h"
#include "tests/unit/test_store_support.h"

static void store_exactly(const char *name) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, PAGE, false);
}

static void fork_all(const char *name, const char *target) {
    struct session_state state;
    struct fork_request request = {.session = name_of(name), .target = name_of(target)};
    ck_assert_int_eq(store_fork(&store, &request, &state), STORE_OK);
}

/* As if it had not been used for long. */
static void leave_idle(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    session->used_ns = 0;
    session_unref(session);
}

static bool exists(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    if (session)
        session_unref(session);
    return session != NULL;
}

START_TEST(one_that_frees_nothing_does_not_cost_those_that_were_touched) {
    const char *names[] = {"a", "fork of a", "touched", "never touched"};
    store_exactly("a");
    fork_all("a", "fork of a"); /* neither frees anything alone */
    store_exactly("touched");
    store_exactly("never touched");
    ck_assert_int_eq(fetch_all("touched", 0, PAGE, 0), STORE_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        leave_idle(names[i]);
    ck_assert(pressure_evict(&store.pressure));
    ck_assert(exists("touched"));
    ck_assert(!exists("never touched"));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("pressure");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, one_that_frees_nothing_does_not_cost_those_that_were_touched);
    return run_suite(cases);
}
