/* A channel moves whole pieces, however little its socket takes or gives at a time, and nothing
 * beside them. */
#include "client/c/channel.h"
#include "client/c/kvq.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct kvq_channel channel;
static int peer;

static void connect_both(void) {
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    kvq_channel_init(&channel);
    channel.socket = ends[0];
    peer = ends[1];
}

static void close_both(void) {
    kvq_channel_close(&channel);
    close(peer);
}

static void expect_two_pieces(char *first, char *second, size_t bytes) {
    channel.input[0] = (struct iovec){.iov_base = first, .iov_len = bytes};
    channel.input[1] = (struct iovec){.iov_base = second, .iov_len = bytes};
    kvq_channel_expect_payload(&channel, 2);
}

START_TEST(pieces_are_filled_byte_by_byte) {
    char *first = malloc(3), *second = malloc(3); /* a byte beside them is the sanitizer's */
    expect_two_pieces(first, second, 3);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_AGAIN);
        ck_assert_uint_eq(kvq_channel_missing_bytes(&channel), (size_t)(6 - i));
        ck_assert_int_eq(write(peer, &"abcdef"[i], 1), 1);
    }
    ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_OK);
    ck_assert(memcmp(first, "abc", 3) == 0 && memcmp(second, "def", 3) == 0);
    free(first);
    free(second);
}
END_TEST

START_TEST(what_comes_behind_is_kept_for_what_is_expected_next) {
    char first[4], rest[3 * KVQ_AHEAD_BYTES], sent[4 + sizeof rest];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)i;
    ck_assert_int_eq(write(peer, sent, sizeof sent), sizeof sent);
    kvq_channel_expect(&channel, first, sizeof first);
    ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_OK);
    ck_assert(kvq_channel_has_ahead(&channel));
    expect_two_pieces(rest, rest + sizeof rest / 2, sizeof rest / 2);
    ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_OK);
    ck_assert(memcmp(first, sent, 4) == 0 && memcmp(rest, sent + 4, sizeof rest) == 0);
    ck_assert(!kvq_channel_has_ahead(&channel));
}
END_TEST

START_TEST(a_payload_takes_at_most_the_next_frames_head_along) {
    char payload[4], sent[4 + 2 * KVQ_AHEAD_OF_PAYLOAD_BYTES] = "pay";
    ck_assert_int_eq(write(peer, sent, sizeof sent), sizeof sent);
    expect_two_pieces(payload, payload + 2, 2);
    ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_OK);
    ck_assert_uint_eq(channel.ahead_end - channel.ahead_start, KVQ_AHEAD_OF_PAYLOAD_BYTES);
}
END_TEST

START_TEST(an_end_is_a_lost_connection) {
    char byte;
    close(peer);
    peer = -1;
    kvq_channel_expect(&channel, &byte, 1);
    ck_assert(kvq_channel_hung_up(&channel));
    ck_assert_int_eq(kvq_channel_fill(&channel), KVQ_CONNECTION_LOST);
    *kvq_channel_queue_head(&channel, 1) = 'x';
    ck_assert_int_eq(kvq_channel_send(&channel), KVQ_CONNECTION_LOST);
}
END_TEST

static void queue_values(const char *values, size_t bytes) {
    ck_assert(kvq_channel_has_room(&channel, 1));
    memset(kvq_channel_queue_head(&channel, 4), 'h', 4);
    *kvq_channel_output_end(&channel) =
        (struct iovec){.iov_base = (void *)values, .iov_len = bytes};
    kvq_channel_queue(&channel, 1);
}

static void read_exactly(char *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        (void)kvq_channel_send(&channel);
        ssize_t got = read(peer, bytes + done, count - done < 4096 ? count - done : 4096);
        ck_assert_int_gt(got, 0);
        done += (size_t)got;
    }
}

START_TEST(what_a_socket_does_not_take_at_once_follows_in_order) {
    enum { BYTES = 1 << 20 };
    char *values = malloc(BYTES), *arrived = malloc(2 * (BYTES + 4));
    for (size_t i = 0; i < BYTES; i++)
        values[i] = (char)(i * 7 + i / 251);
    queue_values(values, BYTES);
    queue_values(values, BYTES);
    ck_assert_int_eq(kvq_channel_send(&channel), KVQ_AGAIN);
    read_exactly(arrived, 2 * (BYTES + 4));
    ck_assert_int_eq(kvq_channel_send(&channel), KVQ_OK);
    ck_assert(kvq_channel_drained(&channel) && channel.out_bytes == 0);
    for (size_t frame = 0; frame < 2; frame++) {
        ck_assert(memcmp(arrived + frame * (BYTES + 4), "hhhh", 4) == 0);
        ck_assert(memcmp(arrived + frame * (BYTES + 4) + 4, values, BYTES) == 0);
    }
    free(values);
    free(arrived);
}
END_TEST

START_TEST(output_that_is_disowned_before_it_began_is_gone) {
    queue_values("values", 6);
    kvq_channel_disown_output(&channel, NULL);
    ck_assert(kvq_channel_drained(&channel));
}
END_TEST

START_TEST(output_that_is_disowned_halfway_is_whole_without_its_values) {
    enum { BYTES = 1 << 20 };
    char *values = malloc(BYTES), *arrived = malloc(2 * (BYTES + 4));
    uint8_t *filler = calloc(1, BYTES);
    memset(values, 'v', BYTES);
    queue_values(values, BYTES);
    queue_values(values, BYTES);
    ck_assert_int_eq(kvq_channel_send(&channel), KVQ_AGAIN);
    kvq_channel_disown_output(&channel, filler);
    free(values); /* the sanitizer would tell of a read */
    read_exactly(arrived, 2 * (BYTES + 4));
    ck_assert_int_eq(kvq_channel_send(&channel), KVQ_OK);
    ck_assert(memcmp(arrived + BYTES + 4, "hhhh", 4) == 0);
    ck_assert_int_eq(arrived[2 * (BYTES + 4) - 1], 0);
    free(arrived);
    free(filler);
}
END_TEST

START_TEST(there_is_room_for_a_commit_and_a_cancel_behind_any_values) {
    while (kvq_channel_has_room(&channel, 1))
        queue_values("values", 6);
    ck_assert_ptr_nonnull(kvq_channel_queue_head(&channel, WIRE_HEADER_BYTES));
    ck_assert_ptr_nonnull(kvq_channel_queue_head(&channel, WIRE_HEADER_BYTES));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client channel");
    TCase *tests = tcase_create("channel");
    tcase_add_checked_fixture(tests, connect_both, close_both);
    tcase_add_test(tests, pieces_are_filled_byte_by_byte);
    tcase_add_test(tests, what_comes_behind_is_kept_for_what_is_expected_next);
    tcase_add_test(tests, a_payload_takes_at_most_the_next_frames_head_along);
    tcase_add_test(tests, an_end_is_a_lost_connection);
    tcase_add_test(tests, what_a_socket_does_not_take_at_once_follows_in_order);
    tcase_add_test(tests, output_that_is_disowned_before_it_began_is_gone);
    tcase_add_test(tests, output_that_is_disowned_halfway_is_whole_without_its_values);
    tcase_add_test(tests, there_is_room_for_a_commit_and_a_cancel_behind_any_values);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
