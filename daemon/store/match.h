/* Finding the session that begins with the most of some tokens.
 *
 * begin -> the ids, in ascending order, any number at a time -> find -> end. One thread at a time.
 */
#ifndef DAEMON_STORE_MATCH_H
#define DAEMON_STORE_MATCH_H

#include "daemon/store/store.h"

struct match;

struct match_request {
    struct store_name model;
    const struct geometry *geometry; /* NULL: any */
    uint64_t tokens;
    const struct salt *salts; /* ascending; copied */
    size_t salt_count;
};

struct match_result {
    char name[256];
    size_t name_bytes;
    uint64_t tokens; /* that agree; 0: there is no such session, and nothing else here */
    struct session_state state;
};

/* STORE_OK or STORE_FULL. */
int match_begin(struct store *store, const struct match_request *request, struct match **match)
    __attribute__((warn_unused_result));

/* STORE_OK or STORE_INVALID (not the next, or too many). */
int match_put_ids(struct match *match, uint64_t first, const void *ids, size_t bytes)
    __attribute__((warn_unused_result));

/* STORE_OK or STORE_INCOMPLETE. */
int match_find(struct match *match, struct match_result *result)
    __attribute__((warn_unused_result));

void match_end(struct match *match);

#endif
