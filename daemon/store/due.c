#include "daemon/store/due.h"

#include "daemon/store/session.h"

void due_init(struct due *due) {
    *due = (struct due){0};
    pthread_mutex_init(&due->lock, NULL);
}

void due_deinit(struct due *due) {
    pthread_mutex_destroy(&due->lock);
}

/* Of two heaps, either of which may be NULL, one. */
static struct session *meld(struct session *a, struct session *b) {
    if (!a || !b)
        return a ? a : b;
    struct session *first = a->due.due_ns <= b->due.due_ns ? a : b, *other = first == a ? b : a;
    other->due.previous = first;
    other->due.next = first->due.child;
    if (first->due.child)
        first->due.child->due.previous = other;
    first->due.child = other;
    return first;
}

static void unlink_siblings(struct session *session) {
    session->due.next = session->due.previous = NULL;
}

/* Of siblings one heap: two and two from the first to the last, then all from the last. */
static struct session *meld_siblings(struct session *first) {
    struct session *pairs = NULL, *heap = NULL;
    while (first) {
        struct session *a = first, *b = a->due.next;
        first = b ? b->due.next : NULL;
        unlink_siblings(a);
        if (b)
            unlink_siblings(b);
        a = meld(a, b);
        a->due.next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct session *pair = pairs;
        pairs = pair->due.next;
        unlink_siblings(pair);
        heap = meld(heap, pair);
    }
    return heap;
}

static void take_out(struct due *due, struct session *session) {
    struct due_link *link = &session->due;
    struct session *rest = meld_siblings(link->child);
    if (session == due->first) {
        due->first = rest;
    } else {
        struct due_link *previous = &link->previous->due;
        *(previous->child == session ? &previous->child : &previous->next) = link->next;
        if (link->next)
            link->next->due.previous = link->previous;
        due->first = meld(due->first, rest);
    }
    *link = (struct due_link){0};
}

bool due_set(struct due *due, struct session *session, uint64_t due_ns) {
    pthread_mutex_lock(&due->lock);
    if (session->due.is_in)
        take_out(due, session);
    if (due_ns != DUE_NEVER) {
        session->due = (struct due_link){.due_ns = due_ns, .is_in = true};
        due->first = meld(due->first, session);
    }
    bool is_first = due->first == session;
    pthread_mutex_unlock(&due->lock);
    return is_first;
}

struct session *due_take(struct due *due, uint64_t now_ns) {
    pthread_mutex_lock(&due->lock);
    struct session *session = due->first;
    if (session && session->due.due_ns > now_ns)
        session = NULL;
    if (session) {
        take_out(due, session);
        session_ref(session);
    }
    pthread_mutex_unlock(&due->lock);
    return session;
}

uint64_t due_next_ns(struct due *due) {
    pthread_mutex_lock(&due->lock);
    uint64_t next_ns = due->first ? due->first->due.due_ns : DUE_NEVER;
    pthread_mutex_unlock(&due->lock);
    return next_ns;
}
