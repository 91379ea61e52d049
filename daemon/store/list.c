#include "daemon/store/list.h"

#include "daemon/store/session.h"

void list_init(struct list *list, uint64_t first_id) {
    *list = (struct list){.id_clock = first_id};
    pthread_mutex_init(&list->lock, NULL);
}

void list_init_of_tenant(struct list *list) {
    list_init(list, 0);
    list->is_tenants = true;
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

static struct list_link *links_of(const struct list *list, struct session *session) {
    return list->is_tenants ? session->by_tenant : session->by_id;
}

/* Behind all with smaller ids: nearly always at the end. */
static void link_in(struct list *list, struct session *session, int lane) {
    struct list_link *ends = &list->ends[lane];
    struct session *before = ends->previous;
    while (before && before->id > session->id)
        before = links_of(list, before)[lane].previous;
    struct session **link = before ? &links_of(list, before)[lane].next : &ends->next;
    struct session *behind = *link;
    links_of(list, session)[lane] = (struct list_link){.next = behind, .previous = before};
    *link = session;
    *(behind ? &links_of(list, behind)[lane].previous : &ends->previous) = session;
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
        struct list_link *ends = &list->ends[lane], *link = &links_of(list, session)[lane];
        *(link->previous ? &links_of(list, link->previous)[lane].next : &ends->next) = link->next;
        *(link->next ? &links_of(list, link->next)[lane].previous : &ends->previous) =
            link->previous;
    }
    session->listed = false;
    pthread_mutex_unlock(&list->lock);
}

/* From the sparsest lane down, each time as far as the id allows. */
static struct session *find_after(const struct list *list, uint64_t after_id) {
    struct session *before = NULL;
    for (int lane = LIST_LANES - 1; lane >= 0; lane--) {
        struct session *next = before ? links_of(list, before)[lane].next : list->ends[lane].next;
        for (; next && next->id <= after_id; next = links_of(list, next)[lane].next)
            before = next;
    }
    return before ? links_of(list, before)[0].next : list->ends[0].next;
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
