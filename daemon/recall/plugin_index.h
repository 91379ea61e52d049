/* One index of a plugin, as a retriever uses it: rows go in and out in the background, a search
 * waits for its answer as long as the plugin has time.
 *
 * Safe from any thread. Nothing waits for the plugin but plugin_index_search() and
 * plugin_index_free().
 */
#ifndef DAEMON_RECALL_PLUGIN_INDEX_H
#define DAEMON_RECALL_PLUGIN_INDEX_H

#include <sys/queue.h>

#include "daemon/recall/vectors.h"

struct plugin;
struct plugin_index;

/* Rows that are given to the index together; embedded in what the caller has of them. */
struct plugin_rows {
    uint64_t first_id;
    const void *vectors;
    size_t count;
    TAILQ_ENTRY(plugin_rows) link; /* as what follows: the plugin's */
    struct plugin_list *list;      /* NULL: none */
    size_t indexed;                /* so many of them, from the first on */
    bool removed;
};
TAILQ_HEAD(plugin_list, plugin_rows);

struct plugin_index_options {
    struct vectors_format format;
    const char *name; /* by which it is the same index in the daemon's next run */
    size_t name_bytes;
    /* The plugin does not read these any more. From any thread; must not call the index. */
    void (*dropped)(struct plugin_rows *rows);
};

/* NULL without memory, and where the plugin is switched off. */
struct plugin_index *plugin_index_new(struct plugin *plugin,
                                      const struct plugin_index_options *options);

/* Drops all rows; if there are any the index is saved. Waits until the plugin has closed the index
 * or overruns its time. */
void plugin_index_free(struct plugin_index *index);

/* False if the plugin is switched off; else the rows are its own until they are dropped. */
bool plugin_index_add(struct plugin_index *index, struct plugin_rows *rows);

/* The rows are dropped, in this call or later, if they are not already. */
void plugin_index_remove(struct plugin_index *index, struct plugin_rows *rows);

/* How many of the rows, from the first on, a search that follows looks at. */
size_t plugin_index_known(struct plugin_index *index, const struct plugin_rows *rows);

/* Hits as the plugin answers, which may be anything: at most k of them, but the true number is
 * returned. Negative if it is switched off, or has no time. `wanted` is not called any more when
 * this returns. */
ptrdiff_t plugin_index_search(struct plugin_index *index, const struct kvq_retriever_query *query,
                              struct kvq_retriever_hit *hits);

/* What became of its answer: so many hits that had to be dropped. */
void plugin_index_judge(struct plugin_index *index, size_t dropped_hits);

struct plugin_index_usage {
    uint64_t rows, bytes;
};
struct plugin_index_usage plugin_index_usage(struct plugin_index *index);

#endif
