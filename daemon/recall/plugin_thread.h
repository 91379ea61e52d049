/* What a plugin's thread and those who ask it share. */
#ifndef DAEMON_RECALL_PLUGIN_THREAD_H
#define DAEMON_RECALL_PLUGIN_THREAD_H

#include <pthread.h>

#include "daemon/base/budget.h"
#include "daemon/recall/plugin.h"
#include "daemon/recall/plugin_index.h"

/* A search on its way through the thread; freed by who is last to know of it. */
struct plugin_search {
    TAILQ_ENTRY(plugin_search) link;
    struct plugin_index *index;
    struct kvq_retriever_query query; /* with a vector and a filter of the search's own */
    bool (*wanted)(void *context, uint64_t id);
    void *context;
    pthread_mutex_t asking; /* while `wanted` is called */
    bool given_up;          /* with `asking`: nobody waits */
    bool begun, done;
    ptrdiff_t count;
    struct kvq_retriever_hit *hits;
    float vector[];
};

struct plugin_index {
    struct plugin *plugin;
    TAILQ_ENTRY(plugin_index) link;
    struct vectors_format format;
    void (*dropped)(struct plugin_rows *rows);
    uint64_t identity;      /* of it in each run of the daemon */
    void *opened;           /* the plugin's; the thread's alone, */
    uint64_t charged_bytes; /* as is what the budget knows of */
    bool is_open, closing, closed, orphaned;
    bool saves; /* when it is closed */
    struct plugin_list adding, added, removing;
    struct plugin_rows *current; /* in no list: the plugin is called about it */
    struct plugin_index_usage usage;
};

struct plugin {
    const struct kvq_retriever *calls;
    void *library;
    const char *options;
    struct budget *budget; /* NULL: none */
    char *directory;       /* likewise */
    time_t loaded;
    uint64_t build; /* which of those that stood at its path, and what it was told */
    uint64_t limit_ns;
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows, and of the indexes */
    pthread_cond_t work, progress;
    bool on, stopping, ended;
    uint64_t call_began_ns; /* 0: no call is under way */
    bool call_is_long;      /* it loads or saves */
    unsigned dropping;      /* threads that tell of dropped rows */
    unsigned faults;        /* faulty answers, one after another */
    TAILQ_HEAD(, plugin_index) indexes;
    TAILQ_HEAD(, plugin_search) searches;
    struct plugin_status status;
    char path[];
};

void *plugin_thread_run(void *context);

/* The functions from here on: with the lock held. */

/* Logs why. Lets go of the lock to drop all rows. */
void plugin_switch_off(struct plugin *plugin, const char *why);

/* How long the call that is under way may take. */
uint64_t plugin_call_limit_ns(const struct plugin *plugin);

/* Switches the plugin off if a call takes too long. */
void plugin_check_time(struct plugin *plugin);

/* Tells that rows were dropped, without the lock meanwhile. */
void plugin_drop(struct plugin *plugin, struct plugin_index *index, struct plugin_rows *rows);

/* To a list, or to none (NULL). */
void plugin_rows_move(struct plugin_rows *rows, struct plugin_list *list);

void plugin_search_free(struct plugin_search *search);

#endif
