/* Turns: whose connections a reactor steps next. In a round of its loop each tenant has a turn of a
 * bounded time, whatever the number of its connections and of what they ask; what does not fit is
 * put off to the next round, before which the sockets of all are looked at.
 *
 * Tenants have their turns in slots, by a hash: who shares one shares a turn. All of it is the
 * reactor's thread's.
 */
#ifndef DAEMON_SERVER_TURNS_H
#define DAEMON_SERVER_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct connection;

enum { TURNS = 64 };

TAILQ_HEAD(turn_queue, connection);

struct turn {
    struct turn_queue queue; /* connections to be stepped again, in the order in which they came */
    uint64_t round, spent_ns;
};

struct turns {
    struct turn slots[TURNS];
    uint64_t round;
    size_t at, listed; /* slot whose turn it is; connections in all queues */
};

/* A connection's place: in the queue of this turn, or of none. */
struct turn_place {
    TAILQ_ENTRY(connection) link;
    struct turn *turn;
};

void turns_init(struct turns *turns);

void turns_begin_round(struct turns *turns);

/* Whether the connection's tenant has time left in this round; and that it took some. */
bool turns_has_time(struct turns *turns, const struct connection *connection);
void turns_spend(struct turns *turns, const struct connection *connection, uint64_t ns);

/* Lists the connection, unless it is; and takes it out, if it is. */
void turns_list(struct turns *turns, struct connection *connection);
void turns_unlist(struct turns *turns, struct connection *connection);

/* The next that is listed and may be stepped in this round, no longer listed. NULL: none may. */
struct connection *turns_next(struct turns *turns);

#endif
