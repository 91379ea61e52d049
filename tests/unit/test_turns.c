/* Turns: a tenant's connections, however many they are, delay another's by one turn a round. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/server/connection.h"

enum { GREEDY = 16, CALM = GREEDY, CONNECTIONS };
#define LONG_NS CLOCK_NS_PER_MS

static struct turns turns;
static struct connection connections[CONNECTIONS];
static struct tenant tenants[8];

/* The calm one is the first that does not share the greedy one's slot. */
static void set_up(void) {
    struct connection *calm = &connections[CALM];
    memset(connections, 0, sizeof connections);
    turns_init(&turns);
    for (int i = 0; i < GREEDY; i++)
        connections[i].peer.tenant = &tenants[0];
    turns_spend(&turns, &connections[0], LONG_NS);
    for (calm->peer.tenant = &tenants[1]; !turns_has_time(&turns, calm); calm->peer.tenant++)
        ck_assert(calm->peer.tenant < &tenants[7]);
    turns_init(&turns);
}

static void list_greedy(void) {
    for (int i = 0; i < GREEDY; i++)
        turns_list(&turns, &connections[i]);
}

START_TEST(in_a_round_a_tenant_has_one_turn_whatever_its_connections) {
    list_greedy();
    struct connection *first = turns_next(&turns);
    ck_assert_ptr_eq(first, &connections[0]);
    turns_spend(&turns, first, LONG_NS);
    ck_assert_ptr_null(turns_next(&turns));
    ck_assert(!turns_has_time(&turns, &connections[1]));
    ck_assert(turns_has_time(&turns, &connections[CALM]));
    turns_list(&turns, &connections[CALM]);
    ck_assert_ptr_eq(turns_next(&turns), &connections[CALM]);
}
END_TEST

START_TEST(a_turn_goes_on_until_its_time_is_spent) {
    list_greedy();
    int steps = 0;
    for (struct connection *next; (next = turns_next(&turns)); steps++)
        turns_spend(&turns, next, 30 * CLOCK_NS_PER_US);
    ck_assert_int_eq(steps, 4);
}
END_TEST

START_TEST(from_round_to_round_each_of_a_tenants_connections_comes) {
    list_greedy();
    for (int i = 0; i < 2 * GREEDY; i++) {
        struct connection *next = turns_next(&turns);
        ck_assert_ptr_eq(next, &connections[i % GREEDY]);
        turns_spend(&turns, next, LONG_NS);
        turns_list(&turns, next);
        turns_begin_round(&turns);
    }
}
END_TEST

START_TEST(who_is_taken_out_does_not_come) {
    list_greedy();
    turns_list(&turns, &connections[0]); /* once is enough */
    for (int i = 0; i < GREEDY - 1; i++)
        turns_unlist(&turns, &connections[i]);
    ck_assert_uint_eq(turns.listed, 1);
    ck_assert_ptr_eq(turns_next(&turns), &connections[GREEDY - 1]);
    ck_assert_ptr_null(turns_next(&turns));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("turns");
    TCase *cases = tcase_create("turns");
    tcase_add_checked_fixture(cases, set_up, NULL);
    tcase_add_test(cases, in_a_round_a_tenant_has_one_turn_whatever_its_connections);
    tcase_add_test(cases, a_turn_goes_on_until_its_time_is_spent);
    tcase_add_test(cases, from_round_to_round_each_of_a_tenants_connections_comes);
    tcase_add_test(cases, who_is_taken_out_does_not_come);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
