/* All sessions of the daemon, kept apart from the client that listed them. */
#ifndef CLIENT_CLI_SESSION_LIST_H
#define CLIENT_CLI_SESSION_LIST_H

#include "client/cli/command.h"

/* Owns its rows and their strings; levels are absent. */
struct session_list {
    struct kvq_session_info *rows;
    size_t count, room;
};

/* Asks for page after page. Returns the failed call's error, or KVQ_NO_MEMORY; the list is to be
 * freed in either case. */
int session_list_load(struct session_list *list, struct kvq_client *client, bool all_tenants);
void session_list_sort(struct session_list *list, enum sort_order order);
void session_list_free(struct session_list *list);

#endif
