/* What the player's parts share: the store, the reference beside it, and what is under way. */
#ifndef TESTS_FAULTS_PLAYER_STATE_H
#define TESTS_FAULTS_PLAYER_STATE_H

#include "daemon/store/append.h"
#include "daemon/store/block.h"
#include "daemon/store/fetch.h"
#include "tests/faults/reference.h"
#include "tests/faults/steps.h"

enum { PLAYER_UNDER_WAY = 3, PLAYER_PARTS_MAX = 64, PLAYER_MEMBERS_MAX = 3 };
enum { PLAYER_BLOCKS = 8, PLAYER_FORMER_MAX = 4, PLAYER_BLOCK_TOKENS_MAX = 256 };
enum {
    PLAYER_FAMILY = 4
}; /* so many blocks may stand behind each other: they are of one geometry */
enum { PLAYER_PICTURES_MAX = 2, PLAYER_PATH_BYTES = 64 };

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

/* A recall by keys. */
struct player_keys {
    struct recall_keys *recall; /* NULL: none is under way */
    struct fetch fetch;
    int slot;
    uint64_t incarnation, end; /* end: of the coded tokens asked for, when they were */
    uint32_t k;
    bool taken, lacks_queries;
};

/* What of a session may be on disk under its name: it as it was when it was saved. */
struct player_saved {
    struct reference_session *pictures[PLAYER_PICTURES_MAX]; /* the newest last */
    size_t count;
    bool may_be_none;
    uint32_t least_tokens; /* behind so many some may be lost, since they were evicted */
};

/* A block's tokens have stamps from first_stamp on. */
struct player_block_content {
    uint32_t tokens;
    uint64_t first_stamp;
    int level;
};

struct player_block {
    bool is_there, is_flushed;                             /* flushed: it comes back */
    struct player_block_content content;                   /* if it is there */
    struct player_block_content former[PLAYER_FORMER_MAX]; /* that may come back instead */
    size_t former_count;
};

struct player {
    struct store store;
    struct recall *recall;
    struct reference reference;
    const struct world *world;
    uint64_t stamps;         /* given out so far */
    uint64_t squeezed_bytes; /* taken away from the store */
    struct player_append appends[PLAYER_UNDER_WAY];
    struct player_fetch fetches[PLAYER_UNDER_WAY];
    struct player_keys keys;
    struct player_block blocks[PLAYER_BLOCKS];
    struct player_saved saved[REFERENCE_SESSIONS];
    char directory[PLAYER_PATH_BYTES]; /* of the disk and its key */
    uint64_t crash;                    /* what becomes of the files then, by chance */
    void *workspace;
    char *room;
    struct page_cache cache;
    size_t step; /* its number */
    bool verbose, was_squeezed;
};

extern const struct geometry player_geometries[];
enum { PLAYER_GEOMETRIES = 6 };

static inline uint32_t lesser(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

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

/* A store as the world has it, with what is on its disk. */
void player_start(struct player *player);

/* Gives back what was taken away from it. */
void player_unsqueeze(struct player *player);

/* For somebody else to get on. */
void player_pause(void);

/* Waits until the keeper has nothing to do. */
void player_await_keeper(struct player *player);
void player_await_session(struct player *player, int slot);

/* A part of tokens that have stamps from first_stamp on. */
struct player_values {
    const struct geometry *geometry;
    uint64_t first_stamp;
    uint32_t tokens, layer;
    enum page_part part;
    bool heads_first;
};
void player_make_values(const struct player_values *of, char *values);

int player_level(uint32_t random);
void player_open(struct player *player, const struct step *step);
void player_age(struct player *player, const struct step *step);
void player_pin(struct player *player, const struct step *step);
void player_info(struct player *player, const struct step *step);

/* Compares all that the store says of the session with what it is. */
void player_check_info(struct player *player, int slot);

void player_fork(struct player *player, const struct step *step);
void player_truncate(struct player *player, const struct step *step);
void player_delete(struct player *player, const struct step *step);
void player_delete_many(struct player *player, const struct step *step);
void player_evict(struct player *player, const struct step *step);

void player_append(struct player *player, const struct step *step);
void player_append_begin(struct player *player, const struct step *step);
void player_append_put(struct player *player, const struct step *step);
void player_append_commit(struct player *player, const struct step *step);
void player_append_drop(struct player *player, const struct step *step);

/* Whether an append to the session is under way. */
bool player_is_appending(const struct player *player, int slot);

void player_match(struct player *player, const struct step *step);

void player_attach(struct player *player, const struct step *step);
void player_get_attachment(struct player *player, const struct step *step);
void player_detach(struct player *player, const struct step *step);
void player_check_attachments(struct player *player, int slot);

/* Before the store is there; and its end, with the store's. */
void player_begin_recall(struct player *player, struct store_options *options);
void player_end_store(struct player *player);

void player_index(struct player *player, const struct step *step);
void player_unindex(struct player *player, const struct step *step);
void player_recall(struct player *player, const struct step *step);
void player_check_entries(struct player *player, int slot);

/* Whether recall finds of the store's session what the reference's has. */
bool player_has_entries_of(struct player *player, struct session *session,
                           const struct reference_session *expected);

void player_recall_keys(struct player *player, const struct step *step);
void player_drop_keys(struct player *player);

void player_fetch(struct player *player, const struct step *step);
void player_fetch_begin(struct player *player, const struct step *step);
void player_fetch_next(struct player *player, const struct step *step);

/* Fetches all of the session and compares it. */
void player_check_all_of(struct player *player, int slot);

const struct geometry *player_block_geometry(const struct player *player, int slot);
const char *player_block_text(int slot);
struct block_key player_block_key(const struct player *player, int slot);

/* Where the block is, with a reference to its chain; without one it is not there. */
struct block_place player_find_block(struct player *player, int slot);
void player_block_put(struct player *player, const struct step *step);
void player_block_get(struct player *player, const struct step *step);
void player_block_act(struct player *player, const struct step *step);
void player_block_evict(struct player *player, const struct step *step);
void player_delete_blocks(struct player *player);

/* All chains are on disk when it returns. */
void player_flush_blocks(struct player *player);

/* After a start: which are there. After an orderly end all are that were. */
void player_look_at_blocks(struct player *player, bool orderly);

/* For the disk, if there is to be one. */
void player_make_directory(struct player *player);

/* What is known of the disk, when the store is gone. */
void player_forget_disk(struct player *player);

void player_flush(struct player *player, const struct step *step);
void player_spill(struct player *player, const struct step *step);
void player_restart(struct player *player, const struct step *step);
void player_crash(struct player *player, const struct step *step);

/* After a step: starts anew if nothing reaches the disk any more. */
void player_heed_crash(struct player *player);

/* Until what was done to it is on disk: STORE_OK, or STORE_DISK where that may fail. */
int player_save(struct player *player, struct session *session, struct session_point point);
int player_await_promise(struct player *player, const struct disk_promise *promise);

/* Who had the name that a new session is to have may still be on its way out of the disk, for what
 * making it came to: then it is tried again, or, where that failed, the name is kept. */
bool player_name_is_to_come(int status);
bool player_name_is_kept(const struct player *player, int status);

/* A change to the session is acknowledged: what is owed to the disk is there before that. */
void player_save_if_owed(struct player *player, int slot);

/* The same of its delete. */
void player_await_delete(struct player *player, int slot, const struct session_discard *discard);

/* What was evicted, behind so many tokens, may still come back. */
void player_note_eviction(struct player *player, int slot, uint32_t tokens_left);

/* What is on disk may be of its new floor, though its manifest has the old one. */
void player_note_floor(struct player *player, int slot);

#endif
