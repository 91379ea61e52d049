#include "daemon/store/coldness.h"

#include <xxhash.h>

#include "daemon/store/session.h"

enum { MOVES_MAX = 256 }; /* under one lock */

void coldness_init(struct coldness *order) {
    *order = (struct coldness){0};
    pthread_mutex_init(&order->lock, NULL);
}

void coldness_deinit(struct coldness *order) {
    pthread_mutex_destroy(&order->lock);
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
    struct coldness_link *link = &session->coldness;
    link->place = place;
    link->warmer = NULL;
    link->colder = queue->warmest;
    *(queue->warmest ? &queue->warmest->coldness.warmer : &queue->coldest) = session;
    queue->warmest = session;
    queue->bytes += link->bytes;
}

/* The one behind it in the walk, which comes to one queue and then to the other. */
static struct session *walk_behind(const struct coldness *order, const struct session *session) {
    const struct coldness_link *link = &session->coldness;
    if (link->warmer || link->place != order->walked_first)
        return link->warmer;
    return order->queues[link->place == COLDNESS_MAIN ? COLDNESS_SMALL : COLDNESS_MAIN].coldest;
}

static void unlink_from(struct coldness *order, struct session *session) {
    const struct coldness_link *link = &session->coldness;
    struct coldness_queue *queue = &order->queues[link->place];
    if (order->next_to_walk == session)
        order->next_to_walk = walk_behind(order, session);
    *(link->colder ? &link->colder->coldness.warmer : &queue->coldest) = link->warmer;
    *(link->warmer ? &link->warmer->coldness.colder : &queue->warmest) = link->colder;
    queue->bytes -= link->bytes;
}

void coldness_insert(struct coldness *order, struct session *session) {
    uint64_t hash;
    pthread_mutex_lock(&order->lock);
    uint64_t *ghost = ghost_of(order, session, &hash);
    bool came_back = *ghost == hash;
    if (came_back)
        *ghost = 0;
    session->coldness.order = order;
    session->coldness.bytes = bytes_of(session);
    link_warmest(order, session, came_back ? COLDNESS_MAIN : COLDNESS_SMALL);
    order->sessions++;
    pthread_mutex_unlock(&order->lock);
}

void coldness_remove(struct coldness *order, struct session *session, bool evicted) {
    uint64_t hash;
    pthread_mutex_lock(&order->lock);
    unlink_from(order, session);
    session->coldness.order = NULL;
    order->sessions--;
    uint64_t *ghost = ghost_of(order, session, &hash);
    if (evicted)
        *ghost = hash;
    pthread_mutex_unlock(&order->lock);
}

void coldness_touch(struct session *session) {
    _Atomic uint32_t *touches = &session->coldness.touches;
    uint32_t seen = atomic_load(touches);
    while (seen < COLDNESS_TOUCHES_MAX && !atomic_compare_exchange_weak(touches, &seen, seen + 1))
        ;
}

void coldness_weigh(struct session *session) {
    struct coldness_link *link = &session->coldness;
    struct coldness *order = link->order;
    uint64_t bytes = bytes_of(session);
    if (!order)
        return;
    pthread_mutex_lock(&order->lock);
    order->queues[link->place].bytes += bytes - link->bytes;
    link->bytes = bytes;
    pthread_mutex_unlock(&order->lock);
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
    atomic_store(&session->coldness.touches, touches);
    link_warmest(order, session, COLDNESS_MAIN);
}

/* Moves on those that were touched. False after some moves, to be called again. */
static bool choose_locked(struct coldness *order, struct session **chosen) {
    for (int moves = 0; moves < MOVES_MAX; moves++) {
        *chosen = candidate(order);
        uint32_t touches = *chosen ? atomic_load(&(*chosen)->coldness.touches) : 0;
        if (touches == 0)
            return true;
        bool is_main = (*chosen)->coldness.place == COLDNESS_MAIN;
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
    if (session->coldness.order)
        make_warmest(order, session, 0);
    pthread_mutex_unlock(&order->lock);
}

void coldness_walk_begin(struct coldness *order) {
    pthread_mutex_lock(&order->lock);
    order->next_to_walk = candidate(order);
    if (order->next_to_walk)
        order->walked_first = order->next_to_walk->coldness.place;
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
