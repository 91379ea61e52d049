/* Embeddings of the model check: entries by label, each with a vector that only it has; what recall
 * finds of a session is all that it has. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/recall/recall.h"
#include "daemon/store/batches.h"
#include "tests/faults/player_state.h"
#include "tests/faults/values.h"

enum { DIM = 8 };

static const char *const labels[REFERENCE_ENTRIES] = {"first", "second", "third", "fourth"};
static const struct batch_kind kind = {
    .dim = DIM, .dtype = BATCH_F32, .metric = BATCH_INNER_PRODUCT};

/* --- recall goes with the store --- */

static void on_done(void *context) {
    (void)context;
}

void player_begin_recall(struct player *player, struct store_options *options) {
    player->recall = recall_new(&(struct recall_options){.on_done = on_done});
    player_expect(player, player->recall != NULL, "recall_new");
    options->batch_listener = recall_listener(player->recall);
}

void player_end_store(struct player *player) {
    recall_stop(player->recall);
    store_deinit(&player->store);
    recall_free(player->recall);
}

/* --- index --- */

static float mark_of(const struct reference_entry *entry) {
    return (float)(entry->seed % 1000003 + 1);
}

static void write_number(uint8_t **to, uint64_t number, size_t bytes) {
    memcpy(*to, &number, bytes);
    *to += bytes;
}

/* One entry, as a client gives it: its numbers and label, then zeros and the vector. */
static size_t make_bytes(const struct reference_entry *entry, const char *label, uint8_t *bytes) {
    float vector[DIM] = {mark_of(entry), 1};
    uint8_t *to = bytes;
    size_t at = BATCH_ENTRY_BYTES + strlen(label);
    write_number(&to, entry->first, 8);
    write_number(&to, entry->tokens, 4);
    write_number(&to, strlen(label), 2);
    write_number(&to, 0, 2);
    memcpy(to, label, strlen(label));
    at = (at + 63) / 64 * 64;
    memcpy(bytes + at, vector, sizeof vector);
    return at + sizeof vector;
}

static int put(struct player *player, int slot, unsigned which, const struct reference_entry *entry,
               struct batch_put_result *result) {
    uint8_t bytes[256] = {0};
    struct batch_put_request request = {.session = player_name(slot), .kind = kind, .rows = 1};
    struct batch_put *put;
    request.bytes = make_bytes(entry, labels[which], bytes);
    int status = batch_put_begin(&player->store, &request, &put);
    if (status != STORE_OK)
        return status;
    status = batch_put_piece(put, 0, bytes, request.bytes);
    while (status == STORE_OK && (status = batch_put_step(put, result)) == STORE_MORE)
        status = STORE_OK;
    batch_put_end(put);
    return status;
}

void player_index(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true);
    unsigned which = random[1] % REFERENCE_ENTRIES;
    struct reference_session *session = player_session(player, slot);
    struct reference_entry entry = {.exists = true, .seed = random[2]};
    struct batch_put_result result = {0};
    entry.first = random[3] % (session->token_count + 1);
    entry.tokens = 1 + random[4] % 200;
    player_say(player, "index %s of %s, tokens %u to %u", labels[which], player_name(slot).text,
               entry.first, entry.first + entry.tokens);
    bool is_there = session->exists && entry.first + entry.tokens <= session->token_count;
    int status = put(player, slot, which, &entry, &result);
    if (!player_expect_status(player, status, is_there ? STORE_OK : STORE_MISS))
        return;
    player_expect(player, result.replaced == session->entries[which].exists,
                  "%llu entries were replaced", (unsigned long long)result.replaced);
    player_expect(player, result.version == session->version, "a version of its own");
    session->entries[which] = entry;
    player_save_if_owed(player, slot);
}

void player_unindex(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    unsigned which = step->random[1] % REFERENCE_ENTRIES;
    struct reference_session *expected = player_session(player, slot);
    struct session *session = store_find(&player->store, player_name(slot));
    struct batch_text label = {labels[which], strlen(labels[which])};
    struct batch_delete_request request = {.labels = &label, .label_count = 1};
    struct batch_delete_result result = {0};
    player_say(player, "unindex %s of %s", labels[which], player_name(slot).text);
    int status = session ? batch_delete(&player->store, session, &request, &result) : STORE_MISS;
    if (session)
        session_unref(session);
    if (!player_expect_status(player, status, expected->exists ? STORE_OK : STORE_MISS))
        return;
    player_expect(player, result.deleted == expected->entries[which].exists, "%llu were deleted",
                  (unsigned long long)result.deleted);
    expected->entries[which].exists = false;
    player_save_if_owed(player, slot);
}

/* --- recall --- */

/* Which of the session's entries a hit is; -1: none. */
static int find_hit(const struct reference_session *session, const struct recall_hit *hit) {
    for (int i = 0; i < REFERENCE_ENTRIES; i++) {
        const struct reference_entry *entry = &session->entries[i];
        if (entry->exists && hit->label_bytes == strlen(labels[i]) &&
            memcmp(hit->label, labels[i], hit->label_bytes) == 0)
            return hit->first == entry->first && hit->tokens == entry->tokens &&
                           hit->score == mark_of(entry)
                       ? i
                       : -1;
    }
    return -1;
}

static bool are_entries_of(const struct reference_session *session, const struct recall_hit *hits,
                           size_t count) {
    bool found[REFERENCE_ENTRIES] = {false};
    for (size_t i = 0; i < count; i++) {
        int which = find_hit(session, &hits[i]);
        if (which < 0 || found[which])
            return false;
        found[which] = true;
    }
    for (int i = 0; i < REFERENCE_ENTRIES; i++)
        if (session->entries[i].exists != found[i])
            return false;
    return true;
}

static int search(struct player *player, struct session *session, struct recall_search **search,
                  const struct recall_hit **hits, size_t *count) {
    const float vector[DIM] = {1};
    struct recall_query query = {.model = {.text = session->model, .bytes = session->model_bytes},
                                 .sessions = malloc(sizeof(struct session *)),
                                 .session_count = 1,
                                 .vector = vector,
                                 .dim = DIM,
                                 .metric = BATCH_INNER_PRODUCT,
                                 .k = RECALL_K_MAX,
                                 .min_score = -INFINITY,
                                 .end = UINT64_MAX};
    int status;
    session_ref(session);
    query.sessions[0] = session;
    *search = recall_begin(player->recall, &query);
    while ((status = recall_result(*search, hits, count)) == STORE_WAIT)
        player_pause();
    return status;
}

bool player_has_entries_of(struct player *player, struct session *session,
                           const struct reference_session *expected) {
    struct recall_search *asked;
    const struct recall_hit *hits;
    size_t count;
    int status = search(player, session, &asked, &hits, &count);
    player_expect(player, status == STORE_OK, "a recall came to %d", status);
    bool same = are_entries_of(expected, hits, count);
    for (size_t i = 0; i < count; i++)
        player_expect(player, i == 0 || hits[i].score <= hits[i - 1].score,
                      "hits are out of order");
    recall_end(asked);
    return same;
}

void player_check_entries(struct player *player, int slot) {
    struct session *session = store_find(&player->store, player_name(slot));
    player_say(player, "recall %s\n", player_name(slot).text);
    if (!session)
        return;
    player_expect(player, player_has_entries_of(player, session, player_session(player, slot)),
                  "other entries than were indexed");
    session_unref(session);
}

void player_recall(struct player *player, const struct step *step) {
    player_check_entries(player, player_pick(player, step->random[0], true));
}
