/* Sessions by the time at which something is due: a pairing heap (Fredman, Sedgewick, Sleator and
 * Tarjan, 1986) that links the sessions themselves, so that it allocates nothing.
 *
 * It holds no references: who takes a session out of the store takes it out of here. Safe from any
 * thread.
 */
#ifndef DAEMON_STORE_DUE_H
#define DAEMON_STORE_DUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

struct due_link {
    struct session *child, *next, *previous; /* previous of a first child is its parent */
    uint64_t due_ns;
    bool is_in;
};

struct due {
    pthread_mutex_t lock; /* of the field below and of the sessions' links */
    struct session *first;
};

#define DUE_NEVER UINT64_MAX

void due_init(struct due *due);
void due_deinit(struct due *due);

/* At this time, in place of the one before; DUE_NEVER takes it out. True if it is the first now. */
bool due_set(struct due *due, struct session *session, uint64_t due_ns);

/* Takes the first out, as a reference of the caller's, if its time has come; else NULL. */
struct session *due_take(struct due *due, uint64_t now_ns) __attribute__((warn_unused_result));

/* When the first is due. */
uint64_t due_next_ns(struct due *due);

#endif
