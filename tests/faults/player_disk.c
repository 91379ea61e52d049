/* Steps of the model check with a disk: saves, spills, orderly restarts, and kills and losses of
 * power, after which each session is as it was when it was saved, or is not there. */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/attachment_disk.h"
#include "daemon/store/info.h"
#include "daemon/store/saving.h"
#include "tests/faults/player.h"
#include "tests/faults/player_state.h"
#include "tests/faults/power.h"

enum { SPILL_CHUNKS = 64 };

/* --- what is on disk --- */

static void drop_pictures(struct player_saved *saved) {
    for (size_t i = 0; i < saved->count; i++) {
        reference_cut(saved->pictures[i], 0);
        free(saved->pictures[i]);
    }
    saved->count = 0;
}

static void add_picture(struct player *player, int slot) {
    struct player_saved *saved = &player->saved[slot];
    player_expect(player, saved->count < PLAYER_PICTURES_MAX, "too much may be on disk");
    struct reference_session *picture = malloc(sizeof *picture);
    reference_copy(player_session(player, slot), picture);
    saved->pictures[saved->count++] = picture;
}

/* It may be there, or what was there before. */
static void note_maybe_saved(struct player *player, int slot) {
    struct player_saved *saved = &player->saved[slot];
    saved->may_be_none |= saved->count == 0;
    add_picture(player, slot);
}

static void note_saved(struct player *player, int slot) {
    struct player_saved *saved = &player->saved[slot];
    drop_pictures(saved);
    add_picture(player, slot);
    saved->may_be_none = false;
    saved->least_tokens = UINT32_MAX;
}

static bool may_fail(const struct player *player) {
    return player->squeezed_bytes > 0 || power_has_ended();
}

int player_save(struct player *player, struct session *session, struct session_point point) {
    int status;
    while ((status = saving_step(&player->store, session, point)) == STORE_WAIT)
        player_pause();
    player_expect(player, status == STORE_OK || (status == STORE_DISK && may_fail(player)),
                  "a save came to %d", status);
    return status;
}

int player_await_promise(struct player *player, const struct disk_promise *promise) {
    int status;
    while ((status = disk_promise_status(promise)) == STORE_WAIT)
        player_pause();
    player_expect(player, status == STORE_OK || (status == STORE_DISK && may_fail(player)),
                  "a promise came to %d", status);
    return status;
}

bool player_name_is_to_come(int status) {
    if (status == STORE_WAIT)
        player_pause();
    return status == STORE_WAIT;
}

bool player_name_is_kept(const struct player *player, int status) {
    bool kept = status == STORE_BUSY && may_fail(player);
    if (kept)
        player_say(player, " = BUSY\n");
    return kept;
}

/* Until it is on disk as it is, or cannot be. */
static void save(struct player *player, int slot, struct session *session) {
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session), saved = session->saved.point;
    bool is_new = saved.version < point.version || saved.changes < point.changes ||
                  session->saved.cuts != session->cuts.count;
    pthread_mutex_unlock(session->lock);
    int status = player_save(player, session, point);
    if (status == STORE_OK && is_new)
        note_saved(player, slot);
    if (status != STORE_OK && power_has_ended())
        note_maybe_saved(player, slot);
}

void player_save_if_owed(struct player *player, int slot) {
    struct session *session =
        player->world->disk ? store_find(&player->store, player_name(slot)) : NULL;
    if (!session)
        return;
    pthread_mutex_lock(session->lock);
    bool is_owed = saving_is_owed(session);
    pthread_mutex_unlock(session->lock);
    if (is_owed)
        save(player, slot, session);
    session_unref(session);
}

void player_await_delete(struct player *player, int slot, const struct session_discard *discard) {
    struct player_saved *saved = &player->saved[slot];
    const struct disk_promise *promise = discard->deleted_on_disk;
    if (promise && player_await_promise(player, promise) == STORE_OK)
        drop_pictures(saved);
    saved->may_be_none = true;
}

void player_note_eviction(struct player *player, int slot, uint32_t tokens_left) {
    struct player_saved *saved = &player->saved[slot];
    saved->least_tokens = lesser(saved->least_tokens, tokens_left);
    saved->may_be_none |= tokens_left == 0;
}

void player_note_floor(struct player *player, int slot) {
    const struct reference_session *session = player_session(player, slot);
    const struct player_saved *saved = &player->saved[slot];
    for (size_t i = 0; i < saved->count; i++)
        if (saved->pictures[i]->incarnation == session->incarnation &&
            saved->pictures[i]->loosened < session->policy.floor)
            saved->pictures[i]->loosened = session->policy.floor;
}

/* --- steps --- */

void player_flush(struct player *player, const struct step *step) {
    bool all = step->random[1] % 4 == 0;
    int first = player_pick(player, step->random[0], true);
    if (!player->world->disk)
        return;
    player_say(player, "flush %s\n", all ? "all" : player_name(first).text);
    for (int slot = all ? 0 : first; slot < (all ? REFERENCE_SESSIONS : first + 1); slot++) {
        struct session *session = store_find(&player->store, player_name(slot));
        if (!session)
            continue;
        (void)saving_retry(session);
        save(player, slot, session);
        session_unref(session);
    }
    if (all)
        player_flush_blocks(player);
}

static struct session *find_session(struct player *player, uint32_t random) {
    int slot = player_pick(player, random, true);
    struct block_place place = player_find_block(player, (int)(random / 16 % PLAYER_BLOCKS));
    if (random % 4 == 0 && place.session) {
        player_say(player, "spill the chain of block %u\n", random / 16 % PLAYER_BLOCKS);
        return place.session;
    }
    if (place.session)
        session_unref(place.session);
    player_say(player, "spill %s\n", player_name(slot).text);
    return store_find(&player->store, player_name(slot));
}

static size_t chunks_of(struct session *session, struct chunk **chunks) {
    size_t count = 0;
    pthread_mutex_lock(session->lock);
    for (; count < session->slice_count && count + 1 < SPILL_CHUNKS; count++)
        chunks[count] = session->slices[count].chunk;
    if (session->coded_tail.chunk && !session->appending)
        chunks[count++] = session->coded_tail.chunk;
    for (size_t i = 0; i < count; i++)
        chunk_ref(chunks[i]);
    pthread_mutex_unlock(session->lock);
    return count;
}

static void spill_attachments(struct player *player, struct session *session) {
    struct attachment *attachments[ATTACHMENTS_MAX];
    pthread_mutex_lock(session->lock);
    size_t count = attachment_set_count(session->attachments);
    for (size_t i = 0; i < count; i++) {
        attachments[i] = session->attachments->attachments[i];
        attachment_ref(attachments[i]);
    }
    pthread_mutex_unlock(session->lock);
    for (size_t i = 0; i < count; i++) {
        (void)attachment_write(&player->store.disk, attachments[i], session, true);
        attachment_unref(attachments[i]);
    }
}

/* As the keeper does it where memory is short; as often as not what follows meets it on its way. */
void player_spill(struct player *player, const struct step *step) {
    struct disk_tier *tier = &player->store.disk;
    struct chunk *chunks[SPILL_CHUNKS];
    struct session *session = player->world->disk ? find_session(player, step->random[0]) : NULL;
    if (!session)
        return;
    size_t count = chunks_of(session, chunks);
    for (size_t i = 0; i < count; i++) {
        (void)disk_tier_write_chunk(tier, chunks[i], true);
        chunk_unref(chunks[i]);
    }
    spill_attachments(player, session);
    session_unref(session);
    while (step->random[1] % 2 == 0 && atomic_load(&tier->counts.spilling_bytes) > 0)
        player_pause();
}

/* --- starting anew --- */

static void drop_what_is_under_way(struct player *player) {
    player_drop_keys(player);
    for (uint32_t i = 0; i < PLAYER_UNDER_WAY; i++) {
        player_append_drop(player, &(struct step){.random = {i}});
        player->fetches[i].under_way = false;
    }
    player_unsqueeze(player);
}

/* Entries leave the version as it is: of several pictures of one version it is the one that has the
 * same. */
static bool has_entries_of(struct player *player, struct session *session,
                           const struct reference_session *picture) {
    struct reference_session cut = {0};
    memcpy(cut.entries, picture->entries, sizeof cut.entries);
    reference_cut(&cut, (uint32_t)session->tokens);
    return player_has_entries_of(player, session, &cut);
}

static bool is_picture_of(const struct reference_session *picture,
                          const struct session_info *info) {
    const struct session_state *state = &info->state;
    return picture->version == state->version && picture->policy.level == state->policy.level &&
           picture->policy.newest_level == state->policy.newest_level &&
           picture->policy.floor == state->policy.floor &&
           picture->pinned == (info->pinned_ns > 0) &&
           picture->on_disk == (state->durability == SESSION_ON_DISK);
}

/* As it was saved, or with less where it was evicted since: then it is of another version. */
static struct reference_session *find_picture(struct player *player, struct session *session,
                                              const struct player_saved *saved,
                                              const struct session_info *info) {
    for (size_t i = saved->count; i-- > 0;)
        if (is_picture_of(saved->pictures[i], info) &&
            has_entries_of(player, session, saved->pictures[i]))
            return saved->pictures[i];
    for (size_t i = saved->count; i-- > 0;)
        if (info->state.tokens >= saved->least_tokens &&
            info->state.tokens < saved->pictures[i]->token_count &&
            has_entries_of(player, session, saved->pictures[i]))
            return saved->pictures[i];
    return NULL;
}

/* The reference's session of this name becomes the one that came back. */
static void take_over(struct player *player, int slot, struct session *there,
                      const struct session_info *info) {
    struct reference_session *session = player_session(player, slot);
    struct player_saved *saved = &player->saved[slot];
    const struct reference_session *picture =
        info ? find_picture(player, there, saved, info) : NULL;
    player_expect(player, !info || picture,
                  "%s came back with %llu tokens of version %llu, as it never was saved",
                  player_name(slot).text, info ? (unsigned long long)info->state.tokens : 0,
                  info ? (unsigned long long)info->state.version : 0);
    player_expect(player, info || saved->count == 0 || saved->may_be_none,
                  "%s was saved and did not come back", player_name(slot).text);
    reference_cut(session, 0);
    *session = (struct reference_session){0};
    if (picture) {
        reference_copy(picture, session);
        reference_cut(session, (uint32_t)info->state.tokens);
        session->version = info->state.version;
        session->least_cut = UINT32_MAX;
    }
    drop_pictures(saved);
    if (picture)
        note_saved(player, slot);
}

static void look_at(struct player *player, int slot) {
    struct session_info info;
    struct session *session = store_find(&player->store, player_name(slot));
    if (session)
        player_expect(player, info_read(session, &info) == STORE_OK, "info_read");
    take_over(player, slot, session, session ? &info : NULL);
    player_say(player, "  %s: %d tokens\n", player_name(slot).text,
               session ? (int)info.state.tokens : -1);
    if (session)
        session_unref(session);
}

static void start_anew(struct player *player) {
    char directory[PLAYER_PATH_BYTES + 8];
    snprintf(directory, sizeof directory, "%s/disk", player->directory);
    bool loses_power = power_has_ended() && player->crash % 2 == 0;
    bool orderly = !power_has_ended();
    player_end_store(player);
    if (loses_power)
        power_lose_unsynced(directory, player->crash);
    player_start(player);
    player_look_at_blocks(player, orderly);
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        look_at(player, slot);
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++) {
        player_check_info(player, slot);
        player_check_all_of(player, slot);
        player_check_attachments(player, slot);
        player_check_entries(player, slot);
    }
}

/* What is saved at an orderly end: all but what never had anything. */
static bool is_to_be_saved(struct player *player, int slot) {
    struct session *session = store_find(&player->store, player_name(slot));
    bool is_to_be =
        session && (session->tokens > 0 || attachment_set_count(session->attachments) > 0 ||
                    session->saved.any);
    if (session)
        session_unref(session);
    return is_to_be;
}

void player_restart(struct player *player, const struct step *step) {
    bool saves[REFERENCE_SESSIONS];
    (void)step;
    if (!player->world->disk)
        return;
    player_say(player, "restart\n");
    drop_what_is_under_way(player);
    keeper_stop(&player->store.keeper);
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        saves[slot] = is_to_be_saved(player, slot);
    saving_save_all(&player->store);
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        if (saves[slot] && power_has_ended())
            note_maybe_saved(player, slot);
        else if (saves[slot])
            note_saved(player, slot);
    start_anew(player);
}

void player_crash(struct player *player, const struct step *step) {
    if (!player->world->disk)
        return;
    player->crash = (uint64_t)step->random[0] << 32 | step->random[1];
    player_say(player, "%s %u calls later\n", player->crash % 2 == 0 ? "no power" : "a kill",
               step->random[2] % 16);
    power_end_after(step->random[2] % 16);
}

void player_heed_crash(struct player *player) {
    if (!power_has_ended())
        return;
    player_say(player, "start again\n");
    drop_what_is_under_way(player);
    start_anew(player);
}

/* --- the directory --- */

static void name_directory(pid_t pid, char path[PLAYER_PATH_BYTES]) {
    bool in_memory = access("/dev/shm", W_OK) == 0;
    snprintf(path, PLAYER_PATH_BYTES, "%s/kvq-model-%d", in_memory ? "/dev/shm" : "/tmp", pid);
}

void player_forget_disk(struct player *player) {
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        drop_pictures(&player->saved[slot]);
}

void player_make_directory(struct player *player) {
    char path[PLAYER_PATH_BYTES + 8], key[DISK_KEY_BYTES] = "any key";
    name_directory(getpid(), player->directory);
    snprintf(path, sizeof path, "%s/key", player->directory);
    if (!player->world->disk)
        return;
    play_clean_up(getpid()); /* a process that had the same number may have been killed */
    int file = mkdir(player->directory, 0700) < 0
                   ? -1
                   : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    player_expect(player, file >= 0 && write(file, key, sizeof key) == sizeof key, "%s", path);
    close(file);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

void play_clean_up(pid_t pid) {
    char path[PLAYER_PATH_BYTES];
    name_directory(pid, path);
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
