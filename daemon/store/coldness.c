#include "daemon/store/coldness.h"

#include <xxhash.h>

#include "daemon/store/session.h"

enum { MOVES_MAX = 256 }; /* under one lock */

void coldness_init(struct coldness *order, enum coldness_lane lane, uint64_t *ghosts) {
    *order = (struct coldness){.lane = lane, .ghosts = ghosts};
    pthread_mutex_init(&order->lock, NULL);
}

void coldness_deinit(struct coldness *order) {
    pthread_mutex_destroy(&order->lock);
}

static struct coldness_link *link_of(const struct coldness *order, struct session *session) {
    return &session->coldness[order->lane];
}

static uint64_t bytes_of(const struct session *session) {
    return sizeof *session + session->tokens * geometry_token_bytes(&session->geometry);
}

static uint64_t *ghost_of(struct coldness *order, const struct session *session, uint64_t *hash) {
    *hash = XXH3_64bits_withSeed(session->name, session->name_bytes, session->tenant->hash) | 1;
    return &order->ghosts[*hash / 2 % COLDNESS_GHOSTS];
}

static void link_warmest(struct coldness *order, struct session *session,
                         enum coldness_place place) {
    struct coldness_queue *queue = &order->queues[place];
    struct coldness_link *link = link_of(order, session);
    link->place = place;
    link->warmer = NULL;
    link->colder = queue->warmest;
    *(queue->warmest ? &link_of(order, queue->warmest)->warmer : &queue->coldest) = session;
    queue->warmest = session;
    queue->bytes += link->bytes;
}

/* The one behind it in the walk, which comes to one queue and then to the other. */
static struct session *walk_behind(const struct coldness *order, struct session *session) {
    const struct coldness_link *link = link_of(order, session);
    if (link->warmer || link->place != order->walked_first)
        return link->warmer;
    return order->queues[link->place == COLDNESS_MAIN ? COLDNESS_SMALL : COLDNESS_MAIN].coldest;
}

static void unlink_from(struct coldness *order, struct session *session) {
    const struct coldness_link *link = link_of(order, session);
    struct coldness_queue *queue = &order->queues[link->place];
    if (order->next_to_walk == session)
        order->next_to_walk = walk_behind(order, session);
    *(link->colder ? &link_of(order, link->colder)->warmer : &queue->coldest) = link->warmer;
    *(link->warmer ? &link_of(order, link->warmer)->colder : &queue->warmest) = link->colder;
    queue->bytes -= link->bytes;
}

/* Where a new one belongs: its name was evicted lately, which is then forgotten, or not. */
static enum coldness_place first_place(struct coldness *order, const struct session *session) {
    uint64_t hash;
    uint64_t *ghost = ghost_of(order, session, &hash);
    if (*ghost != hash)
        return COLDNESS_SMALL;
    *ghost = 0;
    return COLDNESS_MAIN;
}

static enum coldness_place place_among_all(const struct session *session) {
    const struct coldness_link *link = &session->coldness[COLDNESS_OF_ALL];
    pthread_mutex_lock(&link->order->lock);
    enum coldness_place place = link->place;
    pthread_mutex_unlock(&link->order->lock);
    return place;
}

void coldness_insert(struct coldness *order, struct session *session) {
    struct coldness_link *link = link_of(order, session);
    enum coldness_place place = order->ghosts ? COLDNESS_SMALL : place_among_all(session);
    pthread_mutex_lock(&order->lock);
    link->order = order;
    link->bytes = bytes_of(session);
    link_warmest(order, session, order->ghosts ? first_place(order, session) : place);
    order->sessions++;
    pthread_mutex_unlock(&order->lock);
}

void coldness_remove(struct coldness *order, struct session *session, bool evicted) {
    uint64_t hash;
    pthread_mutex_lock(&order->lock);
    unlink_from(order, session);
    link_of(order, session)->order = NULL;
    order->sessions--;
    if (evicted && order->ghosts) {
        uint64_t *ghost = ghost_of(order, session, &hash);
        *ghost = hash;
    }
    pthread_mutex_unlock(&order->lock);
}

static void touch(_Atomic uint32_t *touches) {
    uint32_t seen = atomic_load(touches);
    while (seen < COLDNESS_TOUCHES_MAX && !atomic_compare_exchange_weak(touches, &seen, seen + 1))
        ;
}

void coldness_touch(struct session *session) {
    for (int lane = 0; lane < COLDNESS_LANES; lane++)
        touch(&session->coldness[lane].touches);
}

static void weigh(struct coldness_link *link, uint64_t bytes) {
    struct coldness *order = link->order;
    if (!order)
        return;
    pthread_mutex_lock(&order->lock);
    order->queues[link->place].bytes += bytes - link->bytes;
    link->bytes = bytes;
    pthread_mutex_unlock(&order->lock);
}

void coldness_weigh(struct session *session) {
    for (int lane = 0; lane < COLDNESS_LANES; lane++)
        weigh(&session->coldness[lane], bytes_of(session));
}

size_t coldness_sessions(struct coldness *order) {
    pthread_mutex_lock(&order->lock);
    size_t sessions = order->sessions;
    pthread_mutex_unlock(&order->lock);
    return sessions;
}

/* The small queue gives one up where it holds more than its share. */
static struct session *candidate(const struct coldness *order) {
    const struct coldness_queue *small = &order->queues[COLDNESS_SMALL];
    const struct coldness_queue *main = &order->queues[COLDNESS_MAIN];
    bool is_small = small->bytes > (small->bytes + main->bytes) / COLDNESS_SMALL_SHARE;
    return small->coldest && (is_small || !main->coldest) ? small->coldest : main->coldest;
}

static void make_warmest(struct coldness *order, struct session *session, uint32_t touches) {
    unlink_from(order, session);
    atomic_store(&link_of(order, session)->touches, touches);
    link_warmest(order, session, COLDNESS_MAIN);
}

/* Moves on those that were touched. False after some moves, to be called again. */
static bool choose_locked(struct coldness *order, struct session **chosen) {
    for (int moves = 0; moves < MOVES_MAX; moves++) {
        *chosen = candidate(order);
        uint32_t touches = *chosen ? atomic_load(&link_of(order, *chosen)->touches) : 0;
        if (touches == 0)
            return true;
        bool is_main = link_of(order, *chosen)->place == COLDNESS_MAIN;
        make_warmest(order, *chosen, is_main ? touches - 1 : 0);
    }
    return false;
}

struct session *coldness_coldest(struct coldness *order) {
    struct session *chosen;
    bool is_chosen;
    do {
        pthread_mutex_lock(&order->lock);
        is_chosen = choose_locked(order, &chosen);
        if (is_chosen && chosen)
            session_ref(chosen);
        pthread_mutex_unlock(&order->lock);
    } while (!is_chosen);
    return chosen;
}

void coldness_pass(struct coldness *order, struct session *session) {
    pthread_mutex_lock(&order->lock);
    if (link_of(order, session)->order)
        make_warmest(order, session, 0);
    pthread_mutex_unlock(&order->lock);
}

void coldness_walk_begin(struct coldness *order) {
    pthread_mutex_lock(&order->lock);
    order->next_to_walk = candidate(order);
    if (order->next_to_walk)
        order->walked_first = link_of(order, order->next_to_walk)->place;
    pthread_mutex_unlock(&order->lock);
}

struct session *coldness_walk(struct coldness *order) {
    pthread_mutex_lock(&order->lock);
    struct session *session = order->next_to_walk;
    if (session) {
        session_ref(session);
        order->next_to_walk = walk_behind(order, session);
    }
    pthread_mutex_unlock(&order->lock);
    return session;
}
