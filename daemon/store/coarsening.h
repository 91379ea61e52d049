/* Finding what of a session may be coarser: its slices are brought to the level that its policy has
 * for them now, and the chunks are found that all of their owners want coarser than they are. */
#ifndef DAEMON_STORE_COARSENING_H
#define DAEMON_STORE_COARSENING_H

#include "daemon/store/session.h"

/* Begins as {.session = ...}, held by a reference. */
struct coarsening {
    struct session *session;
    uint64_t from;       /* the session's token to look on at */
    struct chunk *chunk; /* found; with a reference, the caller's, or NULL at the end */
    int level;           /* that it is to have */
};

/* The next chunk: false if there is none. Holds the session's lock for some slices at a time. */
bool coarsening_find(struct coarsening *coarsening) __attribute__((warn_unused_result));

#endif
