#include "client/cli/session_list.h"

#include <stdlib.h>
#include <string.h>

static bool make_room(struct session_list *list, size_t more) {
    if (list->room - list->count >= more)
        return true;
    size_t room = 2 * list->room + more;
    struct kvq_session_info *rows = reallocarray(list->rows, room, sizeof *rows);
    if (!rows)
        return false;
    list->rows = rows;
    list->room = room;
    return true;
}

/* One allocation for both strings; the session's name is its beginning. */
static bool keep(struct session_list *list, const struct kvq_session_info *info) {
    size_t session_bytes = strlen(info->session) + 1, model_bytes = strlen(info->model) + 1;
    size_t tenant_bytes = strlen(info->tenant) + 1;
    char *strings = malloc(session_bytes + model_bytes + tenant_bytes);
    if (!strings)
        return false;
    memcpy(strings, info->session, session_bytes);
    memcpy(strings + session_bytes, info->model, model_bytes);
    memcpy(strings + session_bytes + model_bytes, info->tenant, tenant_bytes);
    struct kvq_session_info *row = &list->rows[list->count++];
    *row = *info;
    row->session = strings;
    row->model = strings + session_bytes;
    row->tenant = strings + session_bytes + model_bytes;
    return true;
}

int session_list_load(struct session_list *list, struct kvq_client *client, bool all_tenants) {
    struct kvq_session_list page = {.more = true};
    for (uint64_t after_id = 0; page.more;) {
        int error = all_tenants ? kvq_list_all(client, after_id, 0, &page)
                                : kvq_list(client, after_id, 0, &page);
        if (error)
            return error;
        if (!make_room(list, page.count))
            return KVQ_NO_MEMORY;
        for (size_t i = 0; i < page.count; i++) {
            if (!keep(list, &page.sessions[i]))
                return KVQ_NO_MEMORY;
            after_id = page.sessions[i].id;
        }
    }
    return KVQ_OK;
}

static int ascending(uint64_t a, uint64_t b) {
    return (a > b) - (a < b);
}

/* Equals stay in the order in which they were made. */
static int compare(const void *left, const void *right, void *context) {
    const enum sort_order *order = context;
    const struct kvq_session_info *a = left, *b = right;
    int difference = 0;
    switch (*order) {
    case SORT_USED:
        difference = ascending(b->idle_ms, a->idle_ms);
        break;
    case SORT_SIZE:
        difference = ascending(b->stored_bytes, a->stored_bytes);
        break;
    case SORT_TOKENS:
        difference = ascending(b->tokens_available, a->tokens_available);
        break;
    case SORT_NAME:
        difference = strcmp(a->session, b->session);
        break;
    default:
        break;
    }
    return difference ? difference : ascending(a->id, b->id);
}

void session_list_sort(struct session_list *list, enum sort_order order) {
    if (list->count > 0)
        qsort_r(list->rows, list->count, sizeof list->rows[0], compare, &order);
}

void session_list_free(struct session_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free((char *)list->rows[i].session);
    free(list->rows);
    *list = (struct session_list){0};
}
