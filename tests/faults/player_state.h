/* What the player's parts share: the store, the reference beside it, and what is under way. */
#ifndef TESTS_FAULTS_PLAYER_STATE_H
#define TESTS_FAULTS_PLAYER_STATE_H

#include "daemon/store/append.h"
#include "daemon/store/fetch.h"
#include "tests/faults/reference.h"
#include "tests/faults/steps.h"

enum { PLAYER_UNDER_WAY = 3, PLAYER_PARTS_MAX = 64, PLAYER_MEMBERS_MAX = 3 };

/* An append: its parts in the order in which they are put. */
struct player_append {
    struct append_member *members[PLAYER_MEMBERS_MAX]; /* run number i is the (i % count)th's */
    uint32_t member_count;
    int slot;
    uint64_t incarnation, first_stamp;
    const struct geometry *geometry;
    uint32_t first, tokens, tail_tokens;
    bool settle, heads_first, has_ids;
    struct player_part {
        uint32_t run, first, tokens, layer;
        enum page_part part;
    } parts[PLAYER_PARTS_MAX];
    uint32_t part_count, put_count;
    bool dead; /* its session was deleted */
};

struct player_fetch {
    bool under_way;
    struct fetch fetch;
    struct fetch_request request;
    int slot;
    uint64_t incarnation, sent_tokens;
    uint32_t least_cut; /* of the session since it began: what lies behind is gone */
    /* Of several cuts between two pulls the store knows how far the deepest ever went, no more. */
    uint32_t cuts_since_pull, may_end;
};

struct player {
    struct store store;
    struct reference reference;
    const struct world *world;
    uint64_t stamps;         /* given out so far */
    uint64_t squeezed_bytes; /* taken away from the store */
    struct player_append appends[PLAYER_UNDER_WAY];
    struct player_fetch fetches[PLAYER_UNDER_WAY];
    void *workspace;
    char *room;
    struct page_cache cache;
    size_t step; /* its number */
    bool verbose, was_squeezed;
};

extern const struct geometry player_geometries[];
enum { PLAYER_GEOMETRIES = 6 };

struct store_name player_name(int slot);
struct store_name player_model(unsigned model);

/* A session that there is, as a rule, or with `there` false one that there is not. */
int player_pick(const struct player *player, uint32_t random, bool there);
struct reference_session *player_session(struct player *player, int slot);

/* Says what was done, if that is wanted. */
void player_say(const struct player *player, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Ends the process unless it holds. */
void player_expect(const struct player *player, bool holds, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* status is the one expected, or where memory is short STORE_FULL. True if it is STORE_OK. */
bool player_expect_status(const struct player *player, int status, int expected);

/* A session's state after it changed, or did not. */
void player_expect_state(const struct player *player, struct reference_session *session,
                         const struct session_state *state, bool changed);

/* Waits until the keeper has nothing to do. */
void player_await_keeper(struct player *player);

void player_append(struct player *player, const struct step *step);
void player_append_begin(struct player *player, const struct step *step);
void player_append_put(struct player *player, const struct step *step);
void player_append_commit(struct player *player, const struct step *step);
void player_append_drop(struct player *player, const struct step *step);

/* Whether an append to the session is under way. */
bool player_is_appending(const struct player *player, int slot);

void player_match(struct player *player, const struct step *step);

void player_fetch(struct player *player, const struct step *step);
void player_fetch_begin(struct player *player, const struct step *step);
void player_fetch_next(struct player *player, const struct step *step);

/* Fetches all of the session and compares it. */
void player_check_all_of(struct player *player, int slot);

#endif
