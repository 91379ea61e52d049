/* Frames and errors: every field of the header and of a DATA frame's descriptor, at its bounds. */
#include "proto/wire/errors.h"
#include "proto/wire/frame.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct wire_header data_header = {
    .type = WIRE_DATA,
    .request_id = 0x89abcdef,
    .control_bytes = WIRE_DATA_BYTES,
    .payload_bytes = WIRE_PAYLOAD_BYTES_MAX,
};

/* A valid header of that type and those lengths, for the test to spoil. */
static void header_of(uint8_t bytes[WIRE_HEADER_BYTES], uint8_t type, uint32_t control,
                      uint32_t payload) {
    struct wire_header header = {
        .type = type, .request_id = 7, .control_bytes = control, .payload_bytes = payload};
    wire_header_write(bytes, &header);
}

static int read_with_lengths(uint8_t type, uint32_t control, uint64_t payload) {
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header;
    header_of(bytes, type, 0, 0);
    for (int i = 0; i < 4; i++)
        bytes[12 + i] = (uint8_t)(control >> (8 * i));
    for (int i = 0; i < 8; i++)
        bytes[16 + i] = (uint8_t)(payload >> (8 * i));
    return wire_header_read(bytes, &header);
}

START_TEST(a_header_has_the_bytes_the_protocol_page_gives) {
    const uint8_t expected[WIRE_HEADER_BYTES] = {
        'K',  'V',  'Q',  '1',  1,  32, 0, 0,  /* magic, version, type, flags */
        0xef, 0xcd, 0xab, 0x89, 24, 0,  0, 0,  /* request id, control length */
        0,    0,    0x10, 0,    0,  0,  0, 0}; /* payload length */
    uint8_t bytes[WIRE_HEADER_BYTES];
    memset(bytes, 0xff, sizeof bytes);
    wire_header_write(bytes, &data_header);
    ck_assert_mem_eq(bytes, expected, sizeof bytes);
}
END_TEST

START_TEST(a_header_reads_back_as_it_was_written) {
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header;
    wire_header_write(bytes, &data_header);
    ck_assert_int_eq(wire_header_read(bytes, &header), WIRE_OK);
    ck_assert_uint_eq(header.type, data_header.type);
    ck_assert_uint_eq(header.request_id, data_header.request_id);
    ck_assert_uint_eq(header.control_bytes, data_header.control_bytes);
    ck_assert_uint_eq(header.payload_bytes, data_header.payload_bytes);
}
END_TEST

START_TEST(any_request_id_is_framing_that_holds) {
    const uint32_t ids[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
    struct wire_header header = {.type = WIRE_PING};
    uint8_t bytes[WIRE_HEADER_BYTES];
    header.request_id = ids[_i];
    wire_header_write(bytes, &header);
    ck_assert_int_eq(wire_header_read(bytes, &header), WIRE_OK);
    ck_assert_uint_eq(header.request_id, ids[_i]);
}
END_TEST

START_TEST(a_flipped_bit_of_magic_or_flags_is_not_the_protocol) {
    static const int offsets[] = {0, 1, 2, 3, 6, 7};
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header;
    header_of(bytes, WIRE_PING, 0, 0);
    bytes[offsets[_i / 8]] ^= (uint8_t)(1 << _i % 8);
    ck_assert_int_eq(wire_header_read(bytes, &header), WIRE_PROTOCOL);
}
END_TEST

START_TEST(only_versions_in_range_are_read) {
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header;
    header_of(bytes, WIRE_PING, 0, 0);
    bytes[4] = (uint8_t)_i;
    bool spoken = _i >= WIRE_VERSION_MIN && _i <= WIRE_VERSION_MAX;
    ck_assert_int_eq(wire_header_read(bytes, &header), spoken ? WIRE_OK : WIRE_VERSION);
}
END_TEST

START_TEST(every_type_is_read_for_the_daemon_to_judge) {
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header;
    header_of(bytes, (uint8_t)_i, _i == WIRE_DATA ? WIRE_DATA_BYTES : 0, 0);
    ck_assert_int_eq(wire_header_read(bytes, &header), WIRE_OK);
    ck_assert_int_eq(header.type, _i);
}
END_TEST

START_TEST(control_lengths_are_bounded) {
    static const struct {
        uint32_t bytes;
        int result;
    } rows[] = {
        {0, WIRE_OK},
        {1, WIRE_OK},
        {WIRE_CONTROL_BYTES_MAX, WIRE_OK},
        {WIRE_CONTROL_BYTES_MAX + 1, WIRE_TOO_LARGE},
        {1u << 31, WIRE_TOO_LARGE},
        {UINT32_MAX, WIRE_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_int_eq(read_with_lengths(WIRE_OPEN, rows[i].bytes, 0), rows[i].result);
}
END_TEST

START_TEST(payload_lengths_are_bounded) {
    static const struct {
        uint64_t bytes;
        int result;
    } rows[] = {
        {0, WIRE_OK},
        {1, WIRE_OK},
        {WIRE_PAYLOAD_BYTES_MAX, WIRE_OK},
        {WIRE_PAYLOAD_BYTES_MAX + 1, WIRE_TOO_LARGE},
        {UINT64_C(1) << 31, WIRE_TOO_LARGE},
        {UINT32_MAX, WIRE_TOO_LARGE},
        {(UINT64_C(1) << 32) + 1, WIRE_TOO_LARGE}, /* 1, were it cut to 32 bits */
        {UINT64_C(1) << 63, WIRE_TOO_LARGE},
        {UINT64_MAX, WIRE_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_int_eq(read_with_lengths(WIRE_DATA, WIRE_DATA_BYTES, rows[i].bytes),
                         rows[i].result);
}
END_TEST

START_TEST(only_data_carries_a_payload) {
    int expected = _i == WIRE_DATA ? WIRE_OK : WIRE_PROTOCOL;
    ck_assert_int_eq(read_with_lengths((uint8_t)_i, WIRE_DATA_BYTES, 1), expected);
}
END_TEST

START_TEST(data_has_a_descriptor_of_its_own_length) {
    ck_assert_int_eq(read_with_lengths(WIRE_DATA, 0, 2), WIRE_PROTOCOL);
    ck_assert_int_eq(read_with_lengths(WIRE_DATA, WIRE_DATA_BYTES - 1, 2), WIRE_PROTOCOL);
    ck_assert_int_eq(read_with_lengths(WIRE_DATA, WIRE_DATA_BYTES + 1, 2), WIRE_PROTOCOL);
}
END_TEST

static const struct wire_data descriptors[] = {
    {.first = 0, .tokens = 1, .layer = 0, .part = 0},
    {.first = UINT64_MAX, .tokens = UINT32_MAX, .layer = UINT32_MAX, .part = 1},
    {.first = 0x0102030405060708, .tokens = 0x090a0b0c, .layer = 0x0d0e0f10, .part = 1},
};

START_TEST(a_descriptor_reads_back_as_it_was_written) {
    uint8_t bytes[WIRE_DATA_BYTES];
    struct wire_data data;
    memset(bytes, 0xff, sizeof bytes);
    wire_data_write(bytes, &descriptors[_i]);
    ck_assert_int_eq(wire_data_read(bytes, &data), WIRE_OK);
    ck_assert_uint_eq(data.first, descriptors[_i].first);
    ck_assert_uint_eq(data.tokens, descriptors[_i].tokens);
    ck_assert_uint_eq(data.layer, descriptors[_i].layer);
    ck_assert_uint_eq(data.part, descriptors[_i].part);
}
END_TEST

START_TEST(a_descriptor_has_the_bytes_the_protocol_page_gives) {
    const uint8_t expected[WIRE_DATA_BYTES] = {8,    7,    6,    5, 4,    3,    2,    1,
                                               0x0c, 0x0b, 0x0a, 9, 0x10, 0x0f, 0x0e, 0x0d,
                                               1,    0,    0,    0, 0,    0,    0,    0};
    uint8_t bytes[WIRE_DATA_BYTES];
    wire_data_write(bytes, &descriptors[2]);
    ck_assert_mem_eq(bytes, expected, sizeof bytes);
}
END_TEST

START_TEST(a_part_is_k_or_v_or_token_ids_or_bytes_or_vectors) {
    uint8_t bytes[WIRE_DATA_BYTES];
    struct wire_data data;
    wire_data_write(bytes, &descriptors[0]);
    bytes[16] = (uint8_t)_i;
    ck_assert_int_eq(wire_data_read(bytes, &data),
                     _i <= WIRE_PART_VECTORS ? WIRE_OK : WIRE_PROTOCOL);
}
END_TEST

START_TEST(a_descriptors_last_bytes_are_zero) {
    uint8_t bytes[WIRE_DATA_BYTES];
    struct wire_data data;
    wire_data_write(bytes, &descriptors[0]);
    bytes[_i] = 0x80;
    ck_assert_int_eq(wire_data_read(bytes, &data), WIRE_PROTOCOL);
}
END_TEST

START_TEST(every_error_has_a_name_and_a_sentence_of_its_own) {
    const struct wire_error_info *info = wire_error_info((uint32_t)_i);
    ck_assert_ptr_nonnull(info->name);
    ck_assert_uint_gt(strlen(info->sentence), 0);
    for (uint32_t other = 0; other < (uint32_t)_i; other++)
        ck_assert_str_ne(info->name, wire_error_info(other)->name);
}
END_TEST

START_TEST(a_number_that_is_no_error_is_told_as_internal) {
    const uint32_t numbers[] = {WIRE_ERROR_COUNT, 0x7fffffff, 0x80000000, UINT32_MAX};
    ck_assert_str_eq(wire_error_info(numbers[_i])->name, "internal");
}
END_TEST

/* The page promises these to clients of other languages: they may not move. */
START_TEST(numbers_names_and_retryable_flags_are_the_protocol_pages) {
    static const struct {
        const char *name;
        bool retryable;
    } rows[] = {
        {"ok", false},
        {"protocol", false},
        {"version", false},
        {"too_large", false},
        {"unknown_operation", false},
        {"bad_control", false},
        {"invalid", false},
        {"model_mismatch", false},
        {"wrong_first", false},
        {"tail_moved", true},
        {"busy", true},
        {"full", true},
        {"miss", false},
        {"version_changed", false},
        {"exists", false},
        {"cancelled", false},
        {"too_many_requests", true},
        {"shutting_down", true},
        {"unsupported", false},
        {"incomplete", false},
        {"internal", false},
        {"read_only", true},
        {"disk", false},
        {"unauthenticated", false},
        {"permission_denied", false},
        {"quota", true},
    };
    ck_assert_uint_eq(WIRE_ERROR_COUNT, sizeof rows / sizeof *rows);
    for (uint32_t code = 0; code < WIRE_ERROR_COUNT; code++) {
        ck_assert_str_eq(wire_error_info(code)->name, rows[code].name);
        ck_assert(wire_error_info(code)->retryable == rows[code].retryable);
    }
}
END_TEST

static TCase *header_tests(void) {
    TCase *tests = tcase_create("header");
    tcase_add_test(tests, a_header_has_the_bytes_the_protocol_page_gives);
    tcase_add_test(tests, a_header_reads_back_as_it_was_written);
    tcase_add_loop_test(tests, any_request_id_is_framing_that_holds, 0, 5);
    tcase_add_loop_test(tests, a_flipped_bit_of_magic_or_flags_is_not_the_protocol, 0, 6 * 8);
    tcase_add_loop_test(tests, only_versions_in_range_are_read, 0, 256);
    tcase_add_loop_test(tests, every_type_is_read_for_the_daemon_to_judge, 0, 256);
    tcase_add_test(tests, control_lengths_are_bounded);
    tcase_add_test(tests, payload_lengths_are_bounded);
    tcase_add_loop_test(tests, only_data_carries_a_payload, 0, 256);
    tcase_add_test(tests, data_has_a_descriptor_of_its_own_length);
    return tests;
}

static TCase *descriptor_tests(void) {
    TCase *tests = tcase_create("descriptor");
    tcase_add_loop_test(tests, a_descriptor_reads_back_as_it_was_written, 0, 3);
    tcase_add_test(tests, a_descriptor_has_the_bytes_the_protocol_page_gives);
    tcase_add_loop_test(tests, a_part_is_k_or_v_or_token_ids_or_bytes_or_vectors, 0, 256);
    tcase_add_loop_test(tests, a_descriptors_last_bytes_are_zero, 17, WIRE_DATA_BYTES);
    return tests;
}

static TCase *error_tests(void) {
    TCase *tests = tcase_create("errors");
    tcase_add_loop_test(tests, every_error_has_a_name_and_a_sentence_of_its_own, 0,
                        WIRE_ERROR_COUNT);
    tcase_add_loop_test(tests, a_number_that_is_no_error_is_told_as_internal, 0, 4);
    tcase_add_test(tests, numbers_names_and_retryable_flags_are_the_protocol_pages);
    return tests;
}

int main(void) {
    Suite *suite = suite_create("wire");
    suite_add_tcase(suite, header_tests());
    suite_add_tcase(suite, descriptor_tests());
    suite_add_tcase(suite, error_tests());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
