/* Attachments of the model check. */
#include <stdlib.h>
#include <string.h>

#include "daemon/store/attachments.h"
#include "tests/faults/player_state.h"
#include "tests/faults/values.h"

enum { LONG_BYTES = 2 * ATTACHMENT_PIECE_BYTES + 5, LONG_SHARE = 8 };

static struct attachment_key key_of(int slot, unsigned which, uint64_t if_version) {
    static const char *const names[REFERENCE_ATTACHMENTS] = {"sampler", "ids", "engine"};
    return (struct attachment_key){.session = player_name(slot),
                                   .name = {.text = names[which], .bytes = strlen(names[which])},
                                   .if_version = if_version};
}

/* Of every other seed they can be compressed. */
static uint8_t *make_bytes(uint64_t seed, size_t count) {
    uint8_t *bytes = malloc(count + 1);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)values_mix(seed % 2 == 0 ? seed + i % 7 : seed + i);
    return bytes;
}

static int put_all(struct player *player, struct attachment_put *put, const uint8_t *bytes,
                   size_t count) {
    int status = STORE_OK;
    for (size_t at = 0; at < count && status == STORE_OK; at += ATTACHMENT_PIECE_BYTES) {
        size_t left = count - at;
        status = attachment_put_piece(
            put, at, bytes + at,
            left < ATTACHMENT_PIECE_BYTES ? left : (size_t)ATTACHMENT_PIECE_BYTES,
            player->workspace);
    }
    return status;
}

static int put(struct player *player, const struct attachment_key *key,
               const struct reference_attachment *attachment, struct attachment_result *result) {
    struct attachment_put *put;
    int status = attachment_put_begin(&player->store, key, attachment->bytes, &put);
    if (status != STORE_OK)
        return status;
    uint8_t *bytes = make_bytes(attachment->seed, attachment->bytes);
    status = put_all(player, put, bytes, attachment->bytes);
    if (status == STORE_OK)
        status = attachment_put_commit(put, result);
    attachment_put_end(put);
    free(bytes);
    return status;
}

static int expected_status(const struct reference_session *session, bool version_fits, bool there) {
    if (!session->exists)
        return STORE_MISS;
    if (!version_fits)
        return STORE_VERSION_CHANGED;
    return there ? STORE_OK : STORE_MISS;
}

static void note_version(const struct player *player, struct reference_session *session,
                         uint64_t version) {
    player_expect(player, version > session->version, "version %llu after %llu",
                  (unsigned long long)version, (unsigned long long)session->version);
    session->version = version;
}

void player_attach(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true);
    unsigned which = random[1] % REFERENCE_ATTACHMENTS;
    struct reference_session *session = player_session(player, slot);
    bool version_fits = random[2] % 8 > 0;
    struct attachment_key key =
        key_of(slot, which, random[2] % 2 == 0 ? session->version - !version_fits : 0);
    version_fits |= key.if_version == 0;
    struct reference_attachment attachment = {
        .exists = true,
        .seed = random[3],
        .bytes = random[4] % LONG_SHARE == 0 ? random[5] % LONG_BYTES : random[5] % 600,
        .tokens = session->token_count,
    };
    struct attachment_result result;
    player_say(player, "attach %s, %u bytes, to %s", key.name.text, attachment.bytes,
               key.session.text);
    if (!player_expect_status(player, put(player, &key, &attachment, &result),
                              expected_status(session, version_fits, true)))
        return;
    session->attachments[which] = attachment;
    note_version(player, session, result.point.version);
}

static int get(struct player *player, const struct attachment_key *key, uint8_t *to,
               size_t *count) {
    struct attachment_get get;
    int status = attachment_get_begin(&player->store, key, &get);
    bool more = status == STORE_OK;
    for (*count = 0; more;) {
        size_t bytes;
        status = attachment_get_next(&player->store, &get, to + *count, &bytes, player->workspace);
        *count += bytes;
        more = status == STORE_MORE || status == STORE_WAIT;
        if (status == STORE_WAIT)
            player_pause();
    }
    attachment_get_end(&get);
    return status;
}

static void check(struct player *player, int slot, unsigned which) {
    const struct reference_session *session = player_session(player, slot);
    const struct reference_attachment *attachment = &session->attachments[which];
    struct attachment_key key = key_of(slot, which, 0);
    uint8_t *expected = make_bytes(attachment->seed, attachment->bytes);
    uint8_t *got = malloc(LONG_BYTES + ATTACHMENT_PIECE_BYTES);
    size_t count;
    player_say(player, "get %s of %s", key.name.text, key.session.text);
    if (player_expect_status(player, get(player, &key, got, &count),
                             expected_status(session, true, attachment->exists)))
        player_expect(player, count == attachment->bytes && memcmp(got, expected, count) == 0,
                      "%zu other bytes than the %u that were attached", count, attachment->bytes);
    free(expected);
    free(got);
}

void player_get_attachment(struct player *player, const struct step *step) {
    check(player, player_pick(player, step->random[0], true),
          step->random[1] % REFERENCE_ATTACHMENTS);
}

void player_check_attachments(struct player *player, int slot) {
    for (unsigned which = 0; which < REFERENCE_ATTACHMENTS; which++)
        check(player, slot, which);
}

void player_detach(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    unsigned which = step->random[1] % REFERENCE_ATTACHMENTS;
    struct reference_session *expected = player_session(player, slot);
    struct attachment_key key = key_of(slot, which, 0);
    struct session *session = store_find(&player->store, key.session);
    struct attachment_result result;
    player_say(player, "detach %s of %s", key.name.text, key.session.text);
    int status = session ? attachment_delete(&player->store, session, &key, &result) : STORE_MISS;
    if (session)
        session_unref(session);
    if (!player_expect_status(player, status,
                              expected_status(expected, true, expected->attachments[which].exists)))
        return;
    expected->attachments[which].exists = false;
    note_version(player, expected, result.point.version);
}
