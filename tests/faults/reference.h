/* What the store ought to hold, as simply as can be said: each session a row of tokens.
 *
 * A token is a stamp, from which values_make() makes its K and V, and if it is coded its place in a
 * group: the tokens that were coded together. Forks share groups as the store shares chunks; what a
 * group gives back is what the codec makes of its values, by one of the ways that its owners allow.
 */
#ifndef TESTS_FAULTS_REFERENCE_H
#define TESTS_FAULTS_REFERENCE_H

#include <stdbool.h>

#include "daemon/store/session.h"

enum { PROMISED_DB = 20 }; /* where a session promises any */
enum { REFERENCE_SESSIONS = 6, REFERENCE_TOKENS_MAX = 640, REFERENCE_PAGES = 4 };

struct reference_group {
    unsigned references; /* a token each */
    const struct geometry *geometry;
    uint64_t stamps[PAGE_TOKENS_MAX];
    uint32_t tokens, sink_tokens;
    double min_snr_db;
    enum session_sharing sharing;
    struct page_bytes pages[REFERENCE_PAGES]; /* as they were last seen: layer * 2 + part */
};

/* A page that sessions shared or offered: what others of the same tokens may have taken instead. */
struct reference_offer {
    struct reference_offer *next;
    const struct geometry *geometry;
    uint64_t stamps[PAGE_TOKENS_MAX];
    uint32_t tokens;
    double min_snr_db;
};

struct reference_token {
    uint64_t stamp;
    struct reference_group *group; /* NULL in the tail */
    uint32_t row;
};

enum { REFERENCE_ATTACHMENTS = 3 }; /* of a session */

struct reference_attachment {
    bool exists;
    uint64_t seed; /* that its bytes are made from */
    uint32_t bytes, tokens;
};

enum { REFERENCE_ENTRIES = 4 }; /* of a session: a label each */

struct reference_entry {
    bool exists;
    uint32_t seed, first, tokens;
};

struct reference_session {
    bool exists;
    const struct geometry *geometry;
    unsigned model;
    struct session_policy policy;
    enum session_sharing sharing;
    bool key_summaries;
    bool pinned, on_disk; /* on_disk: so its appends and deletes are acknowledged */
    int loosened; /* a floor that it had when its chunks were last coded, if it is coarser */
    uint64_t version, incarnation; /* incarnation: which of those that had this name */
    uint32_t least_cut;            /* that ever was */
    uint32_t token_count, tail_tokens;
    uint32_t id_tokens; /* that have ids: from the first on, without a gap */
    struct reference_token tokens[REFERENCE_TOKENS_MAX];
    struct reference_attachment attachments[REFERENCE_ATTACHMENTS];
    struct reference_entry entries[REFERENCE_ENTRIES];
};

struct reference {
    struct reference_session sessions[REFERENCE_SESSIONS];
    struct reference_offer *offers;
    bool tails_at_fast8; /* tails of sessions that are not exact may be lossy, and what follows */
    uint64_t incarnations;
    void *workspace, *encoded, *decoded, *rows, *numbers; /* scratch for the codec */
};

void reference_init(struct reference *reference);
void reference_deinit(struct reference *reference);

/* Tokens with stamps from first_stamp on come behind the session's; with settle its tail is coded,
 * too. */
void reference_append(struct reference *reference, struct reference_session *session,
                      uint64_t first_stamp, uint32_t tokens, bool settle);

/* Only the first tokens stay; attachments go with the last of them, entries with
 * the first of theirs. */
void reference_cut(struct reference_session *session, uint32_t tokens);

void reference_fork(const struct reference_session *source, struct reference_session *target,
                    uint32_t tokens);

bool reference_has_attachments(const struct reference_session *session);

/* target, which is of no tokens, becomes the same. */
void reference_copy(const struct reference_session *source, struct reference_session *target);

/* A piece of a fetch: tokens of one layer and part as they came. */
struct reference_piece {
    uint32_t first, tokens, layer;
    enum page_part part;
    enum page_dtype dtype;
    bool heads_first;
    const void *values;
    size_t bytes;
};

/* Whether the store may give this for these tokens of the session. */
bool reference_allows(struct reference *reference, const struct reference_session *session,
                      const struct reference_piece *piece);

/* Whether these values may come for these tokens at a level no coarser than this, whatever else
 * they were coded together with. */
bool reference_is_near(struct reference *reference, const struct geometry *geometry,
                       const struct reference_token *tokens, const struct reference_piece *piece,
                       int level);

#endif
