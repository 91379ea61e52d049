#include "daemon/store/list.h"

#include "daemon/store/session.h"

void list_init(struct list *list, uint64_t first_id) {
    *list = (struct list){.id_clock = first_id};
    pthread_mutex_init(&list->lock, NULL);
}

void list_deinit(struct list *list) {
    pthread_mutex_destroy(&list->lock);
}

uint64_t list_last_id(struct list *list) {
    pthread_mutex_lock(&list->lock);
    uint64_t id = list->id_clock;
    pthread_mutex_unlock(&list->lock);
    return id;
}

void list_raise_ids(struct list *list, uint64_t id) {
    pthread_mutex_lock(&list->lock);
    if (id > list->id_clock)
        list->id_clock = id;
    pthread_mutex_unlock(&list->lock);
}

static int lanes_of(uint64_t id) {
    int lanes = 1;
    while (lanes < LIST_LANES && id % (UINT64_C(1) << (lanes * LIST_LANE_BITS)) == 0)
        lanes++;
    return lanes;
}

/* Behind all with smaller ids: nearly always at the end. */
static void link_in(struct list *list, struct session *session, int lane) {
    struct list_link *ends = &list->ends[lane];
    struct session *before = ends->previous;
    while (before && before->id > session->id)
        before = before->by_id[lane].previous;
    struct session **link = before ? &before->by_id[lane].next : &ends->next, *behind = *link;
    session->by_id[lane] = (struct list_link){.next = behind, .previous = before};
    *link = session;
    *(behind ? &behind->by_id[lane].previous : &ends->previous) = session;
}

void list_append(struct list *list, struct session *session) {
    pthread_mutex_lock(&list->lock);
    if (session->id == 0)
        session->id = ++list->id_clock;
    for (int lane = 0; lane < lanes_of(session->id); lane++)
        link_in(list, session, lane);
    session->listed = true;
    pthread_mutex_unlock(&list->lock);
}

void list_remove(struct list *list, struct session *session) {
    pthread_mutex_lock(&list->lock);
    for (int lane = 0; lane < lanes_of(session->id); lane++) {
        struct list_link *ends = &list->ends[lane], *link = &session->by_id[lane];
        *(link->previous ? &link->previous->by_id[lane].next : &ends->next) = link->next;
        *(link->next ? &link->next->by_id[lane].previous : &ends->previous) = link->previous;
    }
    session->listed = false;
    pthread_mutex_unlock(&list->lock);
}

/* From the sparsest lane down, each time as far as the id allows. */
static struct session *find_after(const struct list *list, uint64_t after_id) {
    const struct session *before = NULL;
    for (int lane = LIST_LANES - 1; lane >= 0; lane--) {
        struct session *next = before ? before->by_id[lane].next : list->ends[lane].next;
        for (; next && next->id <= after_id; next = next->by_id[lane].next)
            before = next;
    }
    return before ? before->by_id[0].next : list->ends[0].next;
}

struct session *list_after(struct list *list, uint64_t after_id) {
    pthread_mutex_lock(&list->lock);
    struct session *session = find_after(list, after_id);
    if (session)
        session_ref(session);
    pthread_mutex_unlock(&list->lock);
    return session;
}

struct session *list_next(struct list *list, struct session *session) {
    struct session *next = list_after(list, session->id);
    session_unref(session);
    return next;
}
