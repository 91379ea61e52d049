/* A pool that is handed over: the next store has the sessions of the one before, or begins without,
 * whatever is wrong with it. */
#include <sys/mman.h>

#include "daemon/base/bytes.h"
#include "daemon/store/takeover_index.h"
#include "tests/unit/test_store_ids_support.h"
#include "tests/unit/test_store_takeover_support.h"

enum { SMALL_LIMIT_BYTES = 16 << 20 };

/* How many pools are damaged, each in another place: in `make torture` many more. */
static int flips(void) {
    return getenv("KVQ_TORTURE") ? 3000 : 24;
}

static void store_session(const char *name, int level, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, level), STORE_OK);
    store_tokens(name, 0, tokens, false);
    wait_for_keeper(name);
}

static uint64_t used_bytes(void) {
    return store_used_bytes(&store);
}

START_TEST(sessions_are_what_they_were) {
    store_session("a", PAGE_EXACT, 300);
    store_session("b", 2, 256);
    store_session("c", PAGE_EXACT, 7);
    struct session_info before = info_of("b");
    hand_on();
    ck_assert_uint_eq(store.taken.sessions, 3);
    ck_assert_uint_eq(store.taken.tokens, 563);
    ck_assert_uint_eq(store.taken.cut_sessions, 0);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 256, 0.2F), STORE_OK);
    ck_assert_int_eq(fetch_all("c", 0, 7, 0), STORE_OK);
    struct session_info after = info_of("b");
    ck_assert_uint_eq(after.state.version, before.state.version);
    ck_assert(after.loss[PAGE_K].error == before.loss[PAGE_K].error);
}
END_TEST

START_TEST(they_take_the_memory_that_they_took) {
    store_session("a", PAGE_EXACT, 300);
    ck_assert_int_eq(fork_session("a", "b", 299), STORE_OK);
    ck_assert_int_eq(fork_session("a", "c", 200), STORE_OK);
    store_session("d", 2, 256);
    uint64_t before = used_bytes(), pages = atomic_load(&store.usage.pages_bytes);
    hand_on();
    ck_assert_uint_eq(atomic_load(&store.usage.pages_bytes), pages);
    uint64_t once = used_bytes();
    ck_assert_uint_le(once, before);
    for (int i = 0; i < 3; i++)
        hand_on();
    ck_assert_uint_eq(used_bytes(), once);
    for (const char *name = "abcd"; *name; name++)
        ck_assert_int_eq(delete_session((char[]){*name, 0}), STORE_OK);
    ck_assert_uint_eq(atomic_load(&store.usage.pages_bytes), 0);
    ck_assert_uint_eq(used_bytes(), store_fixed_bytes(&store));
}
END_TEST

START_TEST(forks_share_chunks_and_tail_and_go_on_alone) {
    store_session("a", PAGE_EXACT, 300);
    ck_assert_int_eq(fork_session("a", "b", 290), STORE_OK);
    hand_on();
    ck_assert_uint_eq(atomic_load(&store.usage.tails_bytes) * 2,
                      atomic_load(&store.usage.tails_full_bytes));
    store_tokens("a", 300, 400, false);
    store_tokens("b", 290, 500, false);
    ck_assert_int_eq(fetch_all("a", 0, 400, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 500, 0), STORE_OK);
}
END_TEST

START_TEST(no_number_comes_twice) {
    store_session("a", PAGE_EXACT, 300);
    struct session *session = store_find(&store, name_of("a"));
    uint64_t version = session->version, id = session->id, chunk = session->slices[1].chunk->id;
    session_unref(session);
    hand_on();
    store_session("b", PAGE_EXACT, PAGE);
    session = store_find(&store, name_of("b"));
    ck_assert_uint_gt(session->version, version);
    ck_assert_uint_gt(session->id, id);
    ck_assert_uint_gt(session->slices[0].chunk->id, chunk);
    session_unref(session);
}
END_TEST

START_TEST(with_less_memory_than_they_take_the_coldest_are_evicted) {
    char name[] = "a";
    for (; *name <= 'p'; (*name)++)
        store_session(name, PAGE_EXACT, TOKENS_MAX);
    int file = hand_over();
    start(file, 20 << 20);
    close(file);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_DONE);
    for (int i = 0; i < WAIT_STEPS && used_bytes() > 20 << 20; i++)
        wait_step();
    ck_assert_uint_le(used_bytes(), 20 << 20);
    ck_assert(!has_session("a"));
    ck_assert_int_eq(fetch_all("p", 0, TOKENS_MAX, 0), STORE_OK);
}
END_TEST

/* --- what is not taken over --- */

/* A pool's file as bytes: of its beginning, where all that is in use lies, and its note. */
struct picture {
    uint64_t file_bytes;
    size_t bytes;
    uint8_t *begin, note[TAKEOVER_NOTE_BYTES];
};

static uint64_t end_of(struct pool_extent extent, uint64_t before) {
    uint64_t end = extent.offset + extent.bytes;
    return end > before ? end : before;
}

/* Where the last of what is in use ends. */
static uint64_t used_end(int file, const struct takeover_note *note) {
    struct takeover_head head;
    uint8_t *index = malloc(note->index.bytes);
    ck_assert_int_eq(pread(file, index, note->index.bytes, (off_t)note->index.offset),
                     (ssize_t)note->index.bytes);
    ck_assert_int_eq(takeover_read_head(index, note->index.bytes, &head), 0);
    uint64_t end = end_of(note->index, 0);
    const uint8_t *at = index + TAKEOVER_HEAD_BYTES;
    for (uint32_t i = 0; i < head.chunks; i++, at += TAKEOVER_CHUNK_BYTES) {
        struct takeover_chunk chunk = takeover_read_chunk(at);
        end = end_of(chunk.summary, end_of(chunk.extent, end));
    }
    for (uint32_t i = 0; i < head.tails; i++, at += TAKEOVER_TAIL_BYTES)
        end = end_of(takeover_read_tail(at).extent, end);
    free(index);
    return end;
}

static struct picture take_picture(int file) {
    struct picture picture = {.file_bytes = (uint64_t)lseek(file, 0, SEEK_END)};
    struct takeover_note note;
    ck_assert_int_eq(pread(file, picture.note, sizeof picture.note,
                           (off_t)(picture.file_bytes - POOL_UNIT_BYTES)),
                     sizeof picture.note);
    ck_assert_int_eq(takeover_read_note(picture.note, &note), 0);
    picture.bytes = (size_t)used_end(file, &note);
    picture.begin = malloc(picture.bytes);
    ck_assert_int_eq(pread(file, picture.begin, picture.bytes, 0), (ssize_t)picture.bytes);
    return picture;
}

static struct takeover_note note_of(const struct picture *picture) {
    struct takeover_note note;
    ck_assert_int_eq(takeover_read_note(picture->note, &note), 0);
    return note;
}

/* A file as a service manager would hand it over. */
static int develop(const struct picture *picture) {
    int file = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_gt(file, 0);
    ck_assert_int_eq(ftruncate(file, (off_t)picture->file_bytes), 0);
    ck_assert_int_eq(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    ck_assert_int_eq(pwrite(file, picture->begin, picture->bytes, 0), (ssize_t)picture->bytes);
    ck_assert_int_eq(pwrite(file, picture->note, sizeof picture->note,
                            (off_t)(picture->file_bytes - POOL_UNIT_BYTES)),
                     sizeof picture->note);
    return file;
}

/* The outcome, with the store there. */
static enum takeover_outcome start_from(const struct picture *picture) {
    int file = develop(picture);
    start(file, SMALL_LIMIT_BYTES);
    close(file);
    return store.taken.outcome;
}

static void store_with_keys(const char *name, int level, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, level), STORE_OK);
    struct session *session = store_find(&store, name_of(name));
    session->key_summaries = true;
    session_unref(session);
    store_tokens(name, 0, tokens, false);
    wait_for_keeper(name);
}

static struct picture stored_picture(void) {
    store_deinit(&store);
    start(0, SMALL_LIMIT_BYTES);
    store_session("a", PAGE_EXACT, 300);
    store_with_keys("b", 2, 256);
    ck_assert_int_eq(fork_session("a", "c", 280), STORE_OK);
    ck_assert_int_eq(open_session("d", PAGE_EXACT), STORE_OK);
    const struct salt salts[] = {{.first = 3, .end = 9, .bytes = 3, .text = "cat"},
                                 {.first = 100, .end = 200, .bytes = 3, .text = "dog"}};
    fill_ids(ids, 1);
    store_salted("d", 0, 250, ids, salts, 2);
    int file = hand_over();
    struct picture picture = take_picture(file);
    close(file);
    return picture;
}

static void expect_cold(const struct picture *picture, const char *why) {
    ck_assert_int_eq(start_from(picture), TAKEOVER_COLD);
    ck_assert_ptr_nonnull(strstr(store.taken.why, why));
    ck_assert_uint_eq(atomic_load(&store.usage.sessions), 0);
    store_session("a", PAGE_EXACT, 300);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
}

START_TEST(another_layout_is_not_taken_over) {
    struct picture picture = stored_picture();
    struct takeover_note note = note_of(&picture);
    note.layout++;
    takeover_write_note(picture.note, &note);
    expect_cold(&picture, "is of layout 5, and this daemon takes over layout 4");
    free(picture.begin);
}
END_TEST

START_TEST(what_was_in_use_is_not_taken_over) {
    struct picture picture = stored_picture();
    struct takeover_note note = note_of(&picture);
    note.state = TAKEOVER_IN_USE;
    takeover_write_note(picture.note, &note);
    expect_cold(&picture, "crashed or was killed");
    free(picture.begin);
}
END_TEST

START_TEST(what_was_begun_twice_in_vain_is_set_aside) {
    struct picture picture = stored_picture();
    struct takeover_note note = note_of(&picture);
    note.attempts = 1;
    takeover_write_note(picture.note, &note);
    ck_assert_int_eq(start_from(&picture), TAKEOVER_DONE);
    store_deinit(&store);
    note.attempts = 2;
    takeover_write_note(picture.note, &note);
    ck_assert_int_eq(start_from(&picture), TAKEOVER_SET_ASIDE);
    ck_assert_uint_eq(atomic_load(&store.usage.sessions), 0);
    free(picture.begin);
}
END_TEST

START_TEST(a_pool_too_small_for_the_limit_is_not_taken_over) {
    store_session("a", PAGE_EXACT, 300);
    int file = hand_over();
    start(file, 3 * (uint64_t)LIMIT_BYTES);
    close(file);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_COLD);
    ck_assert_ptr_nonnull(strstr(store.taken.why, "less than half of the memory limit"));
}
END_TEST

START_TEST(a_store_that_could_not_start_leaves_the_pool_for_the_next) {
    struct picture picture = stored_picture();
    int file = develop(&picture);
    struct store_options with = store_options_with(SMALL_LIMIT_BYTES);
    with.pool_file = file;
    with.disk = (struct store_disk_options){.directory = "/proc/not/there", .limit_bytes = 1 << 30};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(store_init(&store, &with), -1);
        store_deinit(&store);
    }
    start(file, SMALL_LIMIT_BYTES);
    close(file);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_DONE);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
    free(picture.begin);
}
END_TEST

START_TEST(what_is_no_pool_is_not_taken_over) {
    store_deinit(&store);
    int null = open("/dev/null", O_RDWR), file = memfd_create("pool", MFD_ALLOW_SEALING);
    int pair[2] = {null, file};
    for (int i = 0; i < 2; i++) {
        start(pair[i], SMALL_LIMIT_BYTES);
        ck_assert_int_eq(store.taken.outcome, TAKEOVER_COLD);
        store_deinit(&store);
    }
    ck_assert_int_eq(ftruncate(file, 64 << 20), 0);
    start(file, SMALL_LIMIT_BYTES);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_COLD);
    close(file);
    close(null);
}
END_TEST

/* Without seals it could be cut while it is mapped. */
START_TEST(a_file_that_could_shrink_is_not_taken_over) {
    struct picture picture = stored_picture();
    int file = memfd_create("pool", MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(file, (off_t)picture.file_bytes), 0);
    ck_assert_int_eq(pwrite(file, picture.begin, picture.bytes, 0), (ssize_t)picture.bytes);
    ck_assert_int_gt(pwrite(file, picture.note, sizeof picture.note,
                            (off_t)(picture.file_bytes - POOL_UNIT_BYTES)),
                     0);
    start(file, SMALL_LIMIT_BYTES);
    close(file);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_COLD);
    free(picture.begin);
}
END_TEST

/* --- damage --- */

START_TEST(every_flip_of_note_and_index_is_found) {
    struct picture picture = stored_picture();
    struct takeover_note note = note_of(&picture);
    for (size_t bit = 0; bit < sizeof picture.note * 8; bit += 37) {
        picture.note[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(start_from(&picture), TAKEOVER_COLD);
        store_deinit(&store);
        picture.note[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    uint8_t *index = picture.begin + note.index.offset;
    for (int i = 0; i < flips(); i++) {
        size_t bit = (size_t)rand() % (note.index.bytes * 8);
        index[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(start_from(&picture), TAKEOVER_COLD);
        store_deinit(&store);
        index[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(start_from(&picture), TAKEOVER_DONE);
    free(picture.begin);
}
END_TEST

static void seal(struct picture *picture) {
    struct takeover_note note = note_of(picture);
    note.index_hash = record_hash(picture->begin + note.index.offset, note.index.bytes);
    takeover_write_note(picture->note, &note);
}

/* Whoever handed it over: what it has can be looked at and written to. */
static void use_all(void) {
    struct session *session = list_after(&store.list, 0);
    for (; session; session = list_next(&store.list, session)) {
        struct session_info info;
        (void)!info_read(session, &info);
        struct fetch fetch;
        struct fetch_piece pieces[GEOMETRY_PARTS];
        size_t count;
        struct fetch_request request = {.session = store_name_of(session), .end = session->tokens};
        if (session->tokens == 0 || !geometry_equal(&session->geometry, &geometry) ||
            fetch_begin(&store, &request, &fetch) != STORE_OK)
            continue;
        while (fetch_next(&store, &fetch, &got_room, workspace, pieces, &count) == STORE_MORE)
            ;
    }
}

START_TEST(an_index_of_anybody_crashes_nothing) {
    struct picture picture = stored_picture(), changed = picture;
    struct takeover_note note = note_of(&picture);
    changed.begin = malloc(picture.bytes);
    size_t whole_bytes = (size_t)bytes_get(picture.begin + note.index.offset + 8, 8);
    for (int i = 0; i < 3 * flips(); i++) {
        memcpy(changed.begin, picture.begin, picture.bytes);
        uint8_t *index = changed.begin + note.index.offset;
        for (int left = 1 + rand() % 3; left > 0; left--) {
            size_t bit = (size_t)rand() % (whole_bytes * 8);
            index[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        seal(&changed);
        (void)start_from(&changed);
        use_all();
        store_deinit(&store);
    }
    start(0, LIMIT_BYTES);
    free(changed.begin);
    free(picture.begin);
}
END_TEST

/* What is left of it is right, or said to be damaged when it is read. True if it is all there. */
static bool expect_right_or_missing(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    uint64_t tokens = session ? session->tokens : 0;
    if (session)
        session_unref(session);
    int status = tokens > 0 ? fetch_all(name, 0, tokens, 0) : STORE_MISS;
    ck_assert(status == STORE_OK || status == STORE_MISS || status == STORE_INTERNAL);
    return status == STORE_OK && tokens >= 280;
}

START_TEST(damaged_pages_and_tails_are_misses) {
    int hits = 0;
    struct picture picture = stored_picture();
    struct takeover_note note = note_of(&picture);
    for (int i = 0; i < flips(); i++) {
        size_t at = (size_t)rand() % picture.bytes;
        if (at >= note.index.offset && at < note.index.offset + note.index.bytes)
            continue;
        picture.begin[at] ^= 1;
        ck_assert_int_eq(start_from(&picture), TAKEOVER_DONE);
        hits += expect_right_or_missing("a") + expect_right_or_missing("c");
        store_deinit(&store);
        picture.begin[at] ^= 1;
    }
    ck_assert_int_gt(hits, flips() / 2);
    start(0, LIMIT_BYTES);
    free(picture.begin);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("takeover");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, sessions_are_what_they_were);
    tcase_add_test(cases, they_take_the_memory_that_they_took);
    tcase_add_test(cases, forks_share_chunks_and_tail_and_go_on_alone);
    tcase_add_test(cases, no_number_comes_twice);
    tcase_add_test(cases, with_less_memory_than_they_take_the_coldest_are_evicted);
    tcase_add_test(cases, another_layout_is_not_taken_over);
    tcase_add_test(cases, what_was_in_use_is_not_taken_over);
    tcase_add_test(cases, what_was_begun_twice_in_vain_is_set_aside);
    tcase_add_test(cases, a_pool_too_small_for_the_limit_is_not_taken_over);
    tcase_add_test(cases, a_store_that_could_not_start_leaves_the_pool_for_the_next);
    tcase_add_test(cases, what_is_no_pool_is_not_taken_over);
    tcase_add_test(cases, a_file_that_could_shrink_is_not_taken_over);
    tcase_add_test(cases, every_flip_of_note_and_index_is_found);
    tcase_add_test(cases, an_index_of_anybody_crashes_nothing);
    tcase_add_test(cases, damaged_pages_and_tails_are_misses);
    return run_suite(cases);
}
