/* One search: from a query to ranges of sessions. */
#ifndef DAEMON_RECALL_SEARCH_H
#define DAEMON_RECALL_SEARCH_H

#include "daemon/recall/catalogue.h"
#include "daemon/recall/recall.h"

struct recall_search {
    struct recall_search *next;
    struct recall *recall;
    bool done, abandoned; /* with recall's lock */
    int status;
    uint64_t begun_ns;
    struct recall_query query; /* its strings and arrays are the search's own */
    float *vector;
    struct recall_hit *hits; /* room for k */
    size_t hit_count;
    char model[256], label[BATCH_LABEL_BYTES_MAX];
};

/* NULL without memory. The query's sessions are taken in any case. */
struct recall_search *search_new(const struct recall_query *query);
void search_free(struct recall_search *search);

/* Fills hits and status. On the thread that the catalogue's indexes belong to. */
void search_run(struct recall_search *search, struct catalogue *catalogue);

#endif
