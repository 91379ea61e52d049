/* The options' table: every row can be read, is written as it is read, and is documented. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/config_option.h"

static struct config config;

static void set_up(void) {
    ck_assert_int_eq(config_init(&config), 0);
}

static void tear_down(void) {
    config_deinit(&config);
}

static void set(struct config *target, const char *name, const char *value) {
    char message[800];
    ck_assert_int_eq(config_set(target, name, value, message, sizeof message), 0);
}

START_TEST(test_every_default_is_written_as_it_stands_in_the_table) {
    char text[CONFIG_VALUE_BYTES];
    for (int i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        config_option_write(option, &config, text);
        ck_assert_str_eq(text, option->standard ? option->standard : "none");
    }
}
END_TEST

START_TEST(test_every_example_is_a_value) {
    for (int i = 0; i < config_option_count; i++)
        if (config_options[i].example)
            ck_assert_int_eq(
                config_option_read(&config_options[i], &config, config_options[i].example), 0);
}
END_TEST

START_TEST(test_every_option_has_a_default_or_an_example_and_a_text) {
    for (int i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        ck_assert(!option->standard != !option->example);
        ck_assert(option->text && option->text[0]);
    }
}
END_TEST

static const char *const written[][3] = {
    {"memory", "1048576K", "1G"},    {"memory", "67108865", "67108865"},
    {"memory", "1536M", "1536M"},    {"append_wait", "120s", "2min"},
    {"append_wait", "90s", "90s"},   {"append_wait", "1001ms", "1001ms"},
    {"socket_mode", "6", "0006"},    {"level", "exact", "exact"},
    {"ttl", "0s", "never"},          {"ttl", "never", "never"},
    {"idle_step", "90min", "90min"}, {"ttl", "168h", "7d"},
};

START_TEST(test_a_value_is_written_in_the_largest_unit_that_divides_it) {
    char text[CONFIG_VALUE_BYTES];
    set(&config, written[_i][0], written[_i][1]);
    config_option_write(config_option_find(written[_i][0]), &config, text);
    ck_assert_str_eq(text, written[_i][2]);
}
END_TEST

START_TEST(test_a_reload_takes_what_is_live_and_names_the_rest) {
    struct config fresh;
    struct config_changes changes;
    ck_assert_int_eq(config_init(&fresh), 0);
    set(&fresh, "level", "5");
    set(&fresh, "stall_timeout", "1min");
    set(&fresh, "memory", "2G");
    set(&fresh, "tcp", "127.0.0.1:80");
    config_take_live(&config, &fresh, &changes);
    ck_assert_str_eq(changes.made, "memory 1G -> 2G, level 3 -> 5, stall_timeout 30s -> 1min");
    ck_assert_str_eq(changes.waiting, "tcp none -> 127.0.0.1:80");
    ck_assert_uint_eq(config.stall_ms, 60000);
    ck_assert_uint_eq(config.memory_bytes, UINT64_C(2) << 30);
    ck_assert_ptr_null(config.tcp);
    config_deinit(&fresh);
}
END_TEST

START_TEST(test_long_values_do_not_break_the_list_of_changes) {
    struct config fresh;
    struct config_changes changes;
    char path[3000];
    memset(path, '/', sizeof path);
    path[sizeof path - 1] = 0;
    ck_assert_int_eq(config_init(&fresh), 0);
    set(&fresh, "socket", path);
    set(&fresh, "memory", "2G");
    config_take_live(&config, &fresh, &changes);
    ck_assert_uint_eq(strlen(changes.waiting), sizeof changes.waiting - 1);
    config_deinit(&fresh);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_every_default_is_written_as_it_stands_in_the_table);
    tcase_add_test(tests, test_every_example_is_a_value);
    tcase_add_test(tests, test_every_option_has_a_default_or_an_example_and_a_text);
    tcase_add_loop_test(tests, test_a_value_is_written_in_the_largest_unit_that_divides_it, 0,
                        (int)(sizeof written / sizeof written[0]));
    tcase_add_test(tests, test_a_reload_takes_what_is_live_and_names_the_rest);
    tcase_add_test(tests, test_long_values_do_not_break_the_list_of_changes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
