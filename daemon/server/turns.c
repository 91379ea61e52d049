#include "daemon/server/turns.h"

#include "daemon/base/clock.h"
#include "daemon/server/connection.h"

/* About what a step takes at least that sends some pages. */
#define TURN_NS (100 * CLOCK_NS_PER_US)

enum { HASH_SHIFT = 58 }; /* leaves a number below TURNS */

void turns_init(struct turns *turns) {
    *turns = (struct turns){.round = 1};
    for (int i = 0; i < TURNS; i++)
        TAILQ_INIT(&turns->slots[i].queue);
}

void turns_begin_round(struct turns *turns) {
    turns->round++;
}

static struct turn *turn_of(struct turns *turns, const struct connection *connection) {
    uint64_t hash = (uint64_t)(uintptr_t)connection->peer.tenant * UINT64_C(0x9e3779b97f4a7c15);
    return &turns->slots[hash >> HASH_SHIFT];
}

static bool has_time(const struct turns *turns, const struct turn *turn) {
    return turn->round != turns->round || turn->spent_ns < TURN_NS;
}

bool turns_has_time(struct turns *turns, const struct connection *connection) {
    return has_time(turns, turn_of(turns, connection));
}

void turns_spend(struct turns *turns, const struct connection *connection, uint64_t ns) {
    struct turn *turn = turn_of(turns, connection);
    turn->spent_ns = ns + (turn->round == turns->round ? turn->spent_ns : 0);
    turn->round = turns->round;
}

void turns_list(struct turns *turns, struct connection *connection) {
    if (connection->place.turn)
        return;
    struct turn *turn = turn_of(turns, connection);
    TAILQ_INSERT_TAIL(&turn->queue, connection, place.link);
    connection->place.turn = turn;
    turns->listed++;
}

void turns_unlist(struct turns *turns, struct connection *connection) {
    if (!connection->place.turn)
        return;
    TAILQ_REMOVE(&connection->place.turn->queue, connection, place.link);
    connection->place.turn = NULL;
    turns->listed--;
}

struct connection *turns_next(struct turns *turns) {
    for (int i = 0; i < TURNS && turns->listed > 0; i++) {
        const struct turn *turn = &turns->slots[turns->at];
        struct connection *connection = TAILQ_FIRST(&turn->queue);
        if (connection && has_time(turns, turn)) {
            turns_unlist(turns, connection);
            return connection;
        }
        turns->at = (turns->at + 1) % TURNS;
    }
    return NULL;
}
