/* Addresses: numeric ones and localhost are taken and written back as they were read. */
#include <check.h>
#include <stdlib.h>

#include "daemon/base/address.h"

static const char *const taken[][2] = {
    {"127.0.0.1:7420", "127.0.0.1:7420"}, {"127.255.255.254:1", "127.255.255.254:1"},
    {"127.0.0.1:0", "127.0.0.1:0"},       {"127.0.0.1:65535", "127.0.0.1:65535"},
    {"localhost:80", "127.0.0.1:80"},     {"[::1]:7420", "[::1]:7420"},
    {"[0:0:0:0:0:0:0:1]:5", "[::1]:5"},   {"127.0.0.1:00080", "127.0.0.1:80"},
};

static const char *const beyond[][2] = {
    {"126.255.255.255:80", "126.255.255.255:80"},
    {"128.0.0.0:80", "128.0.0.0:80"},
    {"0.0.0.0:80", "0.0.0.0:80"},
    {"[::]:80", "[::]:80"},
    {"[::2]:80", "[::2]:80"},
    {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"},
};

START_TEST(test_a_loopback_address_is_taken) {
    union address address;
    char text[ADDRESS_TEXT_BYTES];
    ck_assert(address_parse_loopback(taken[_i][0], &address));
    ck_assert(address_is_loopback(&address));
    address_write(&address, text);
    ck_assert_str_eq(text, taken[_i][1]);
}
END_TEST

START_TEST(test_an_address_beyond_loopback_is_told_from_one_on_it) {
    union address address;
    char text[ADDRESS_TEXT_BYTES];
    ck_assert(!address_parse_loopback(beyond[_i][0], &address));
    ck_assert(address_parse(beyond[_i][0], &address));
    ck_assert(!address_is_loopback(&address));
    address_write(&address, text);
    ck_assert_str_eq(text, beyond[_i][1]);
}
END_TEST

static const char *const refused[] = {
    "",
    ":",
    "127.0.0.1",
    "127.0.0.1:",
    ":80",
    "127.0.0.1:65536",
    "127.0.0.1:000080",
    "127.0.0.1:+80",
    "127.0.0.1: 80",
    "127.0.0.1:80 ",
    "127.1:80",
    "0x7f.0.0.1:80",
    "::1:80",
    "[::1:80",
    "::1]:80",
    "[]:80",
    "[::1%lo]:80",
    "localhost.example:80",
    "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]:80",
};

START_TEST(test_all_else_is_refused) {
    union address address;
    ck_assert_msg(!address_parse(refused[_i], &address), "%s", refused[_i]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("address");
    TCase *tests = tcase_create("address");
    tcase_add_loop_test(tests, test_a_loopback_address_is_taken, 0,
                        (int)(sizeof taken / sizeof taken[0]));
    tcase_add_loop_test(tests, test_an_address_beyond_loopback_is_told_from_one_on_it, 0,
                        (int)(sizeof beyond / sizeof beyond[0]));
    tcase_add_loop_test(tests, test_all_else_is_refused, 0,
                        (int)(sizeof refused / sizeof refused[0]));
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
