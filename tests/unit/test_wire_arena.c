/* The bounded allocator, and protobuf-c's unpacking of hostile bytes within it. */
#include "proto/wire/arena.h"
#include "proto/wire/kvq.pb-c.h"

#include <check.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 4096, CONTROL_BYTES = 1 << 16 };

static _Alignas(max_align_t) char memory[ARENA_BYTES + 64];
static uint8_t control[CONTROL_BYTES];
static struct wire_arena arena;

static void set_up(void) {
    memset(memory, 0xa5, sizeof memory);
    wire_arena_init(&arena, memory, ARENA_BYTES);
}

static void assert_nothing_beyond_is_touched(void) {
    for (size_t i = ARENA_BYTES; i < sizeof memory; i++)
        ck_assert_uint_eq((uint8_t)memory[i], 0xa5);
}

START_TEST(memory_is_aligned_for_any_type) {
    for (size_t size = 1; size < 70; size++) {
        void *at = wire_arena_alloc(&arena, size);
        ck_assert_ptr_nonnull(at);
        ck_assert_uint_eq((uintptr_t)at % alignof(max_align_t), 0);
        wire_arena_reset(&arena);
        ck_assert_ptr_nonnull(wire_arena_alloc(&arena, size));
        ck_assert_uint_eq((uintptr_t)wire_arena_alloc(&arena, 1) % alignof(max_align_t), 0);
        wire_arena_reset(&arena);
    }
}
END_TEST

START_TEST(memory_is_zeroed_also_when_used_again) {
    for (int round = 0; round < 2; round++) {
        char *at = wire_arena_alloc(&arena, 100);
        for (int i = 0; i < 100; i++)
            ck_assert_int_eq(at[i], 0);
        memset(at, 0x7e, 100);
        wire_arena_reset(&arena);
    }
}
END_TEST

START_TEST(two_pieces_do_not_overlap) {
    char *first = wire_arena_alloc(&arena, 33);
    char *second = wire_arena_alloc(&arena, 33);
    ck_assert(second >= first + 33);
}
END_TEST

START_TEST(the_whole_arena_can_be_had_and_no_more) {
    ck_assert_ptr_nonnull(wire_arena_alloc(&arena, ARENA_BYTES));
    ck_assert_ptr_null(wire_arena_alloc(&arena, 1));
    assert_nothing_beyond_is_touched();
}
END_TEST

START_TEST(a_request_above_what_is_left_is_refused_and_takes_nothing) {
    const size_t sizes[] = {ARENA_BYTES - 15, ARENA_BYTES,  ARENA_BYTES + 1, SIZE_MAX / 2,
                            SIZE_MAX - 16,    SIZE_MAX - 1, SIZE_MAX};
    ck_assert_ptr_nonnull(wire_arena_alloc(&arena, 16));
    size_t used_bytes = arena.used_bytes;
    ck_assert_ptr_null(wire_arena_alloc(&arena, sizes[_i]));
    ck_assert_uint_eq(arena.used_bytes, used_bytes);
    assert_nothing_beyond_is_touched();
}
END_TEST

START_TEST(an_arena_of_odd_size_is_not_overrun) {
    wire_arena_init(&arena, memory, 1001);
    size_t pieces = 0;
    while (wire_arena_alloc(&arena, 7))
        pieces++;
    ck_assert_uint_eq(pieces, 1001 / alignof(max_align_t));
    ck_assert_uint_eq((uint8_t)memory[1001], 0xa5);
}
END_TEST

START_TEST(an_arena_of_no_bytes_gives_nothing) {
    wire_arena_init(&arena, memory, 0);
    ck_assert_ptr_null(wire_arena_alloc(&arena, 1));
}
END_TEST

START_TEST(reset_gives_everything_back) {
    void *first = wire_arena_alloc(&arena, ARENA_BYTES);
    wire_arena_reset(&arena);
    ck_assert_ptr_eq(wire_arena_alloc(&arena, ARENA_BYTES), first);
}
END_TEST

START_TEST(a_message_unpacks_within_the_arena) {
    Kvq__InfoRequest request = KVQ__INFO_REQUEST__INIT;
    request.session.data = (uint8_t[]){'c', 'h', 'a', 't'};
    request.session.len = 4;
    size_t size = kvq__info_request__pack(&request, control);
    Kvq__InfoRequest *got = kvq__info_request__unpack(&arena.allocator, size, control);
    ck_assert_ptr_nonnull(got);
    ck_assert_uint_eq(got->session.len, 4);
    ck_assert_mem_eq(got->session.data, "chat", 4);
    ck_assert((char *)got >= memory && (char *)got < memory + ARENA_BYTES);
}
END_TEST

/* sessions = 1 of ListReply: two bytes of message become a SessionInfo of some hundred. */
START_TEST(a_repeated_field_that_grows_beyond_the_arena_is_no_message) {
    for (size_t i = 0; i < CONTROL_BYTES; i += 2) {
        control[i] = 1 << 3 | 2;
        control[i + 1] = 0;
    }
    ck_assert_ptr_null(kvq__list_reply__unpack(&arena.allocator, CONTROL_BYTES, control));
    ck_assert_uint_le(arena.used_bytes, ARENA_BYTES);
    assert_nothing_beyond_is_touched();
}
END_TEST

START_TEST(a_field_longer_than_the_arena_is_no_message) {
    const size_t size = 3 * ARENA_BYTES;
    control[0] = 1 << 3 | 2;
    control[1] = (uint8_t)((size & 0x7f) | 0x80);
    control[2] = (uint8_t)(size >> 7);
    ck_assert_ptr_null(kvq__info_request__unpack(&arena.allocator, 3 + size, control));
    assert_nothing_beyond_is_touched();
}
END_TEST

START_TEST(a_length_beyond_the_message_is_no_message) {
    static const uint8_t messages[][12] = {
        {0x0a, 0x01},                                                       /* 1 of 0 */
        {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},                               /* 2^32 - 1 */
        {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, /* 2^64 - 1 */
    };
    static const size_t sizes[] = {2, 6, 11};
    ck_assert_ptr_null(kvq__info_request__unpack(&arena.allocator, sizes[_i], messages[_i]));
}
END_TEST

START_TEST(every_truncation_of_a_message_is_refused_or_a_shorter_message) {
    Kvq__Geometry geometry = KVQ__GEOMETRY__INIT;
    Kvq__OpenRequest request = KVQ__OPEN_REQUEST__INIT;
    geometry.layers = 30;
    geometry.heads = 300;
    request.session.data = (uint8_t[]){'c', 'h', 'a', 't'};
    request.session.len = 4;
    request.geometry = &geometry;
    size_t size = kvq__open_request__pack(&request, control);
    for (size_t cut = 0; cut < size; cut++) {
        wire_arena_reset(&arena);
        Kvq__OpenRequest *got = kvq__open_request__unpack(&arena.allocator, cut, control);
        if (got)
            ck_assert_ptr_null(got->geometry);
    }
}
END_TEST

/* Any bytes: no crash (the sanitizers look on), and nothing taken beyond the arena. */
START_TEST(random_bytes_stay_within_the_arena) {
    static const ProtobufCMessageDescriptor *const requests[] = {
        &kvq__hello_request__descriptor,  &kvq__open_request__descriptor,
        &kvq__append_request__descriptor, &kvq__fetch_request__descriptor,
        &kvq__list_reply__descriptor,     &kvq__session_info__descriptor};
    uint64_t state = 0x9e3779b97f4a7c15u + (uint64_t)_i;
    for (int round = 0; round < 2000; round++) {
        size_t size = (size_t)round % 300;
        for (size_t i = 0; i < size; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            control[i] = (uint8_t)(state >> 56) & (round % 2 ? 0xff : 0x1f);
        }
        wire_arena_reset(&arena);
        protobuf_c_message_unpack(requests[_i], &arena.allocator, size, control);
        ck_assert_uint_le(arena.used_bytes, ARENA_BYTES);
    }
    assert_nothing_beyond_is_touched();
}
END_TEST

static TCase *allocator_tests(void) {
    TCase *tests = tcase_create("allocator");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, memory_is_aligned_for_any_type);
    tcase_add_test(tests, memory_is_zeroed_also_when_used_again);
    tcase_add_test(tests, two_pieces_do_not_overlap);
    tcase_add_test(tests, the_whole_arena_can_be_had_and_no_more);
    tcase_add_loop_test(tests, a_request_above_what_is_left_is_refused_and_takes_nothing, 0, 7);
    tcase_add_test(tests, an_arena_of_odd_size_is_not_overrun);
    tcase_add_test(tests, an_arena_of_no_bytes_gives_nothing);
    tcase_add_test(tests, reset_gives_everything_back);
    return tests;
}

static TCase *unpack_tests(void) {
    TCase *tests = tcase_create("unpack");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, a_message_unpacks_within_the_arena);
    tcase_add_test(tests, a_repeated_field_that_grows_beyond_the_arena_is_no_message);
    tcase_add_test(tests, a_field_longer_than_the_arena_is_no_message);
    tcase_add_loop_test(tests, a_length_beyond_the_message_is_no_message, 0, 3);
    tcase_add_test(tests, every_truncation_of_a_message_is_refused_or_a_shorter_message);
    tcase_add_loop_test(tests, random_bytes_stay_within_the_arena, 0, 6);
    return tests;
}

int main(void) {
    Suite *suite = suite_create("wire arena");
    suite_add_tcase(suite, allocator_tests());
    suite_add_tcase(suite, unpack_tests());
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
