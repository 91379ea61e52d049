/* Blocks by key after the daemon began again. */
#include <stdio.h>

#include "daemon/store/manifest.h"
#include "daemon/store/takeover_index.h"
#include "tests/unit/test_store_block_support.h"
#include "tests/unit/test_store_disk_support.h"
#include "tests/unit/test_store_takeover_support.h"

static void save_chains(void) {
    struct session *session = list_after(&store.chains, 0);
    for (; session; session = list_next(&store.chains, session))
        flush_session(session);
}

START_TEST(blocks_come_back_after_a_restart) {
    put_chain(6);
    restart();
    ck_assert_uint_eq(store.blocks.blocks, 6);
    ck_assert_uint_eq(store.usage.chains, 1);
    ck_assert_uint_eq(store.usage.sessions, 0);
    for (char key[] = "0"; key[0] < '6'; key[0]++)
        ck_assert(gives(key, (uint64_t)(key[0] - '0') * BLOCK, BLOCK));
    ck_assert(!gives("6", 0, BLOCK));
}
END_TEST

START_TEST(a_chain_grows_on_after_a_restart) {
    put_chain(3);
    restart();
    put_block("3", "2", 3 * (uint64_t)BLOCK, BLOCK);
    ck_assert_uint_eq(store.usage.chains, 1);
    restart();
    for (char key[] = "0"; key[0] < '4'; key[0]++)
        ck_assert(gives(key, (uint64_t)(key[0] - '0') * BLOCK, BLOCK));
}
END_TEST

START_TEST(a_second_child_comes_back_in_a_chain_of_its_own) {
    put_chain(4);
    put_block("x", "1", 6 * (uint64_t)BLOCK, BLOCK);
    restart();
    ck_assert_uint_eq(store.usage.chains, 2);
    ck_assert(gives("x", 6 * (uint64_t)BLOCK, BLOCK));
    ck_assert(gives("3", 3 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(where_its_sequence_stands_is_known_after_a_restart) {
    struct block_put_request request = put_request("later", "", BLOCK);
    struct block_put *put;
    request.first_position = 4096;
    ck_assert_int_eq(block_put_begin(&store, &request, &put), STORE_OK);
    send(put, 0, BLOCK);
    ck_assert_int_eq(block_put_commit(put, workspace), STORE_OK);
    block_put_end(put);
    restart();
    struct session *session = chain_of("later");
    ck_assert_uint_eq(session->first_position, 4096);
    session_unref(session);
}
END_TEST

START_TEST(a_block_that_was_not_committed_does_not_come_back) {
    struct block_put *put;
    put_chain(2);
    ck_assert_int_eq(begin_put("2", "1", BLOCK, &put), STORE_OK);
    send(put, 2 * (uint64_t)BLOCK, BLOCK);
    save_chains();
    block_put_end(put);
    crash();
    ck_assert_uint_eq(exists("2"), 0);
    ck_assert(gives("1", BLOCK, BLOCK));
}
END_TEST

START_TEST(blocks_that_were_not_saved_are_gone_after_a_crash_and_leave_nothing) {
    put_chain(6);
    crash();
    ck_assert_uint_eq(store.blocks.blocks, 0);
    ck_assert_uint_eq(store.usage.chains, 0);
    put_chain(6);
    ck_assert(gives("5", 5 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(what_is_put_behind_saved_blocks_may_be_lost_and_they_are_not) {
    put_chain(3);
    restart();
    put_block("3", "2", 3 * (uint64_t)BLOCK, BLOCK);
    crash();
    ck_assert_uint_eq(exists("3"), 0);
    ck_assert(gives("2", 2 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

/* What is on disk of the chain's slice. */
static void lose_chunk(size_t slice) {
    struct session *session = chain_of("0");
    struct disk_job job = {
        .operation = DISK_DELETE,
        .key = {.id = session->slices[slice].chunk->id, .kind = DISK_CHUNK},
    };
    session_unref(session);
    disk_tier_do(&store.disk, &job);
    ck_assert_int_eq(job.status, DISK_OK);
}

START_TEST(a_block_whose_tokens_are_damaged_is_gone_and_those_before_it_are_there) {
    put_chain(6);
    restart();
    lose_chunk(1);
    crash();
    ck_assert_uint_eq(store.blocks.blocks, 2);
    ck_assert(gives("1", BLOCK, BLOCK));
    ck_assert_uint_eq(exists("2"), 0);
}
END_TEST

START_TEST(a_chain_whose_first_tokens_are_found_lost_leaves_nothing) {
    put_chain(4);
    restart();
    lose_chunk(0);
    ck_assert(!gives("0", 0, BLOCK));
    ck_assert_uint_eq(store.blocks.blocks, 0);
    ck_assert_uint_eq(store.usage.chains, 0);
}
END_TEST

/* As the reply waits for it. */
static void delete_for_good(const char *key) {
    struct block_key wanted = key_of(key);
    struct block_deletion deletion;
    int status = STORE_WAIT;
    block_delete(&store, &wanted, &deletion);
    ck_assert_uint_eq(deletion.tokens, BLOCK);
    while (deletion.chain &&
           (status = saving_step(&store, deletion.chain, deletion.point)) != STORE_OK)
        wait_for_disk(status);
    while (deletion.promise && (status = disk_promise_status(deletion.promise)) != STORE_OK)
        wait_for_disk(status);
    if (deletion.chain)
        session_unref(deletion.chain);
    if (deletion.promise)
        disk_promise_release(deletion.promise);
}

START_TEST(a_deleted_block_does_not_come_back) {
    put_chain(6);
    restart();
    delete_for_good("2");
    delete_for_good("5");
    crash();
    ck_assert_uint_eq(exists("2"), 0);
    ck_assert_uint_eq(exists("5"), 0);
    ck_assert(gives("1", BLOCK, BLOCK));
    ck_assert(gives("4", 4 * (uint64_t)BLOCK, BLOCK));
}
END_TEST

START_TEST(a_chain_of_which_all_was_deleted_does_not_come_back) {
    put_chain(2);
    restart();
    delete_for_good("0");
    delete_for_good("1");
    crash();
    ck_assert_uint_eq(store.usage.chains, 0);
    ck_assert_uint_eq(exists("0") + exists("1"), 0);
}
END_TEST

/* Else it would be there again, deleted or put with other values meanwhile. */
START_TEST(what_was_evicted_of_a_saved_chain_does_not_come_back) {
    put_chain(6);
    save_chains();
    evict("0", 1);
    await_disk();
    crash();
    ck_assert_uint_eq(exists("4"), 0);
    ck_assert_uint_eq(exists("5"), 0);
}
END_TEST

START_TEST(what_eviction_left_of_a_saved_chain_is_saved_at_the_end) {
    put_chain(6);
    save_chains();
    evict("0", 1);
    restart();
    ck_assert(gives("3", 3 * (uint64_t)BLOCK, BLOCK));
    ck_assert_uint_eq(exists("4"), 0);
}
END_TEST

/* As a crash may leave it: the older chain's manifest still has what it lost. */
static void put_beside_older_on_disk(void) {
    put_chain(1);
    save_chains();
    struct session *old = chain_of("0");
    struct session_discard *discard;
    old->saved.any = false; /* so that it stays on disk */
    ck_assert_int_eq(store_delete_session(&store, old, NULL, &discard), STORE_OK);
    keeper_discard(&store.keeper, &discard->discard);
    session_unref(old);
    put_block("0", "", 5 * (uint64_t)BLOCK, BLOCK);
}

START_TEST(of_two_blocks_of_one_key_the_later_counts) {
    put_beside_older_on_disk();
    restart();
    ck_assert(gives("0", 5 * (uint64_t)BLOCK, BLOCK));
    ck_assert_uint_eq(store.usage.chains, 1);
    delete_for_good("0");
    crash();
    ck_assert_uint_eq(exists("0"), 0);
}
END_TEST

START_TEST(a_block_that_was_never_saved_is_later_than_one_on_disk) {
    put_beside_older_on_disk();
    hand_on();
    ck_assert(gives("0", 5 * (uint64_t)BLOCK, BLOCK));
    ck_assert_uint_eq(store.usage.chains, 1);
}
END_TEST

START_TEST(chains_out_of_a_pool_that_were_never_saved_are_not_saved_for_that) {
    put_chain(3);
    hand_on();
    struct session *session = chain_of("0");
    pthread_mutex_lock(session->lock);
    ck_assert(!session->saved.under_way && !session->saved.any);
    pthread_mutex_unlock(session->lock);
    session_unref(session);
}
END_TEST

/* As anybody could have written it. */
static void change_index(int file, const char *from, const char *to) {
    uint8_t bytes[TAKEOVER_NOTE_BYTES];
    off_t note_at = lseek(file, 0, SEEK_END) - POOL_UNIT_BYTES;
    struct takeover_note note;
    ck_assert_int_eq(pread(file, bytes, sizeof bytes, note_at), sizeof bytes);
    ck_assert_int_eq(takeover_read_note(bytes, &note), 0);
    ssize_t count = (ssize_t)note.index.bytes;
    uint8_t *index = malloc(note.index.bytes);
    ck_assert_int_eq(pread(file, index, note.index.bytes, (off_t)note.index.offset), count);
    memcpy(memmem(index, note.index.bytes, from, strlen(from)), to, strlen(to));
    note.index_hash = record_hash(index, note.index.bytes);
    takeover_write_note(bytes, &note);
    ck_assert_int_eq(pwrite(file, index, note.index.bytes, (off_t)note.index.offset), count);
    ck_assert_int_eq(pwrite(file, bytes, sizeof bytes, note_at), sizeof bytes);
    free(index);
}

START_TEST(of_a_key_that_an_index_of_anybody_has_twice_the_first_counts) {
    put_block("key-a", "", 0, BLOCK);
    save_chains();
    put_block("key-b", "", BLOCK, BLOCK);
    int file = hand_over();
    change_index(file, "key-b", "key-a");
    start(file, LIMIT_BYTES);
    close(file);
    ck_assert(gives("key-a", 0, BLOCK));
    ck_assert_uint_eq(store.usage.chains, 1);
}
END_TEST

START_TEST(a_chain_that_cannot_be_taken_over_comes_back_from_disk) {
    put_block("key-a", "", 0, 2 * PAGE);
    put_block("key-b", "", PAGE, 2 * PAGE);
    save_chains();
    int file = hand_over();
    change_index(file, "key-b", "key-a");
    start(file, LIMIT_BYTES);
    close(file);
    await_disk();
    ck_assert(gives("key-a", 0, 2 * PAGE));
    ck_assert(gives("key-b", PAGE, 2 * PAGE));
}
END_TEST

START_TEST(ids_of_sessions_stay_below_those_of_chains_after_a_restart) {
    put_chain(1);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 10, false);
    restart();
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    struct session *session = store_find(&store, name_of("b"));
    ck_assert_uint_lt(session->id, STORE_CHAIN_IDS);
    session_unref(session);
    put_block("1", "", 0, BLOCK);
    session = chain_of("1");
    ck_assert_uint_gt(session->id, STORE_CHAIN_IDS);
    session_unref(session);
}
END_TEST

static uint64_t live_disk_bytes(void) {
    struct disk_stats stats;
    disk_read_stats(store.disk.disk, &stats);
    return stats.live_bytes;
}

static void put_small_blocks(int count) {
    char key[8], parent[8] = "";
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%d", i);
        put_block(key, parent, (uint64_t)i, 1);
        memcpy(parent, key, sizeof parent);
    }
}

/* How many blocks a start with so much memory finds: all or none of a chain's. Nothing is evicted,
 * though little room is left. */
static uint64_t blocks_with(uint64_t memory_bytes, uint64_t saved_bytes) {
    struct store_options options = store_options_with(memory_bytes);
    options.memory_high_percent = options.memory_low_percent = 100;
    bool opened = try_start(&options);
    uint64_t blocks = store.blocks.blocks;
    if (opened)
        ck_assert_uint_ge(live_disk_bytes(), saved_bytes);
    store_deinit(&store);
    return blocks;
}

START_TEST(starts_that_lack_memory_take_nothing_off_the_disk) {
    enum { BLOCKS = 1000, STEP_BYTES = 256 << 10, SMALL_STEP_BYTES = 8 << 10 };
    put_small_blocks(BLOCKS);
    restart();
    uint64_t saved_bytes = live_disk_bytes(), bytes = store_empty_bytes(2), blocks;
    store_deinit(&store);
    while (blocks_with(bytes, saved_bytes) < BLOCKS)
        bytes += STEP_BYTES;
    bytes -= STEP_BYTES;
    while ((blocks = blocks_with(bytes, saved_bytes)) < BLOCKS) {
        ck_assert_uint_eq(blocks, 0);
        bytes += SMALL_STEP_BYTES;
    }
    open_store();
    ck_assert_uint_eq(store.blocks.blocks, BLOCKS);
    ck_assert(gives("999", 999, 1));
}
END_TEST

/* Reads all its blocks, if it is one. */
static void read_manifest_of(const uint8_t *bytes, size_t count) {
    struct manifest manifest;
    struct block_entry block;
    size_t at = 0;
    uint64_t end = 0;
    if (manifest_read(&manifest, bytes, count) < 0)
        return;
    for (; manifest_next_block(&manifest, &at, &block); end = block.first + block.tokens) {
        ck_assert_uint_ge(block.first, end);
        ck_assert_uint_le(block.first + block.tokens, manifest.tokens);
        ck_assert_uint_le(block.key_bytes, BLOCK_KEY_BYTES_MAX);
    }
}

/* The disk's checksum stands before this: whatever comes is read within its bytes. */
START_TEST(a_chains_manifest_of_any_bytes_is_read_within_them) {
    put_chain(4);
    struct session *session = chain_of("0");
    size_t bytes = manifest_bytes(session, 0);
    uint8_t *memory = calloc(1, bytes), *changed = malloc(bytes);
    manifest_write(session, NULL, 0, memory);
    struct manifest manifest;
    ck_assert_int_eq(manifest_read(&manifest, memory, bytes), 0);
    ck_assert_uint_gt(manifest.blocks_bytes, 0);
    for (size_t at = 0; at < bytes * 8; at++) {
        memcpy(changed, memory, bytes);
        changed[at / 8] ^= (uint8_t)(1u << at % 8);
        read_manifest_of(changed, bytes);
    }
    free(changed);
    free(memory);
    session_unref(session);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("chain recovery");
    tcase_add_checked_fixture(cases, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(cases, blocks_come_back_after_a_restart);
    tcase_add_test(cases, a_chain_grows_on_after_a_restart);
    tcase_add_test(cases, a_second_child_comes_back_in_a_chain_of_its_own);
    tcase_add_test(cases, where_its_sequence_stands_is_known_after_a_restart);
    tcase_add_test(cases, a_block_that_was_not_committed_does_not_come_back);
    tcase_add_test(cases, blocks_that_were_not_saved_are_gone_after_a_crash_and_leave_nothing);
    tcase_add_test(cases, what_is_put_behind_saved_blocks_may_be_lost_and_they_are_not);
    tcase_add_test(cases, a_block_whose_tokens_are_damaged_is_gone_and_those_before_it_are_there);
    tcase_add_test(cases, a_chain_whose_first_tokens_are_found_lost_leaves_nothing);
    tcase_add_test(cases, a_deleted_block_does_not_come_back);
    tcase_add_test(cases, a_chain_of_which_all_was_deleted_does_not_come_back);
    tcase_add_test(cases, what_was_evicted_of_a_saved_chain_does_not_come_back);
    tcase_add_test(cases, what_eviction_left_of_a_saved_chain_is_saved_at_the_end);
    tcase_add_test(cases, of_two_blocks_of_one_key_the_later_counts);
    tcase_add_test(cases, a_block_that_was_never_saved_is_later_than_one_on_disk);
    tcase_add_test(cases, chains_out_of_a_pool_that_were_never_saved_are_not_saved_for_that);
    tcase_add_test(cases, of_a_key_that_an_index_of_anybody_has_twice_the_first_counts);
    tcase_add_test(cases, a_chain_that_cannot_be_taken_over_comes_back_from_disk);
    tcase_add_test(cases, ids_of_sessions_stay_below_those_of_chains_after_a_restart);
    tcase_add_test(cases, starts_that_lack_memory_take_nothing_off_the_disk);
    tcase_add_test(cases, a_chains_manifest_of_any_bytes_is_read_within_them);
    return run_suite(cases);
}
