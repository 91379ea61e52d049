#include "daemon/recall/plugin_index.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/recall/plugin_thread.h"

enum { FAULTS_MOST = 8, SPARE_HITS = 64 };

static uint64_t identity_of(const struct plugin *plugin,
                            const struct plugin_index_options *options) {
    const struct vectors_format *format = &options->format;
    const uint32_t kind[] = {format->dim, format->dtype, format->metric};
    uint64_t hash = XXH3_64bits_withSeed(kind, sizeof kind, plugin->build);
    return XXH3_64bits_withSeed(options->name, options->name_bytes, hash);
}

struct plugin_index *plugin_index_new(struct plugin *plugin,
                                      const struct plugin_index_options *options) {
    struct plugin_index *index = calloc(1, sizeof *index);
    if (!index)
        return NULL;
    index->plugin = plugin;
    index->format = options->format;
    index->dropped = options->dropped;
    index->identity = identity_of(plugin, options);
    TAILQ_INIT(&index->adding);
    TAILQ_INIT(&index->added);
    TAILQ_INIT(&index->removing);
    pthread_mutex_lock(&plugin->lock);
    bool on = plugin->on;
    if (on)
        TAILQ_INSERT_TAIL(&plugin->indexes, index, link);
    pthread_mutex_unlock(&plugin->lock);
    if (on)
        return index;
    free(index);
    return NULL;
}

/* Until something has changed, or the call under way has had its time; with the lock. */
static void wait_for_plugin(struct plugin *plugin, uint64_t end_ns) {
    uint64_t call_ends_ns = plugin->call_began_ns + plugin_call_limit_ns(plugin) + 1;
    uint64_t until =
        plugin->on && plugin->call_began_ns > 0 && call_ends_ns < end_ns ? call_ends_ns : end_ns;
    struct timespec at = {(time_t)(until / CLOCK_NS_PER_S), (long)(until % CLOCK_NS_PER_S)};
    pthread_cond_timedwait(&plugin->progress, &plugin->lock, &at);
    plugin_check_time(plugin);
}

static void drop_list(struct plugin_index *index, struct plugin_list *list) {
    while (!TAILQ_EMPTY(list))
        plugin_drop(index->plugin, index, TAILQ_FIRST(list));
}

void plugin_index_free(struct plugin_index *index) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    index->saves = (index->current && !index->current->removed) || !TAILQ_EMPTY(&index->added) ||
                   !TAILQ_EMPTY(&index->adding);
    index->closing = true;
    pthread_cond_signal(&plugin->work);
    while (plugin->on && !index->closed)
        wait_for_plugin(plugin, clock_now_ns() + plugin->limit_ns);
    drop_list(index, &index->removing);
    drop_list(index, &index->adding);
    drop_list(index, &index->added);
    while (plugin->dropping > 0)
        pthread_cond_wait(&plugin->progress, &plugin->lock);
    index->orphaned = !index->closed;
    if (index->closed) {
        TAILQ_REMOVE(&plugin->indexes, index, link);
        free(index);
    }
    pthread_mutex_unlock(&plugin->lock);
}

/* --- rows --- */

bool plugin_index_add(struct plugin_index *index, struct plugin_rows *rows) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    plugin_check_time(plugin);
    bool on = plugin->on;
    if (on) {
        plugin_rows_move(rows, &index->adding);
        pthread_cond_signal(&plugin->work);
    }
    pthread_mutex_unlock(&plugin->lock);
    return on;
}

void plugin_index_remove(struct plugin_index *index, struct plugin_rows *rows) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    plugin_check_time(plugin);
    rows->removed = true;
    if (plugin->on && rows->list && rows->indexed > 0) {
        plugin_rows_move(rows, &index->removing);
        pthread_cond_signal(&plugin->work);
    } else if (plugin->on && rows->list) {
        plugin_drop(plugin, index, rows);
    }
    pthread_mutex_unlock(&plugin->lock);
}

size_t plugin_index_known(struct plugin_index *index, const struct plugin_rows *rows) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    plugin_check_time(plugin);
    size_t known = plugin->on ? rows->indexed : 0;
    pthread_mutex_unlock(&plugin->lock);
    return known;
}

struct plugin_index_usage plugin_index_usage(struct plugin_index *index) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    struct plugin_index_usage usage = plugin->on ? index->usage : (struct plugin_index_usage){0};
    pthread_mutex_unlock(&plugin->lock);
    return usage;
}

/* --- searches --- */

/* With room behind the hits, for a plugin that cannot count. */
static struct plugin_search *search_new(struct plugin_index *index,
                                        const struct kvq_retriever_query *query) {
    size_t vector_bytes = index->format.dim * sizeof(float);
    struct plugin_search *search = calloc(1, sizeof *search + vector_bytes);
    if (!search)
        return NULL;
    search->hits = calloc(2 * query->k + SPARE_HITS, sizeof *search->hits);
    if (!search->hits) {
        free(search);
        return NULL;
    }
    search->index = index;
    search->query = *query;
    search->query.vector = memcpy(search->vector, query->vector, vector_bytes);
    search->wanted = query->wanted;
    search->context = query->context;
    pthread_mutex_init(&search->asking, NULL);
    return search;
}

void plugin_search_free(struct plugin_search *search) {
    pthread_mutex_destroy(&search->asking);
    free(search->hits);
    free(search);
}

/* A plugin that is in time, but has others to answer first, costs a search at most twice its
 * limit. With the lock. */
static void await_answer(struct plugin *plugin, const struct plugin_search *search) {
    uint64_t end_ns = clock_now_ns() + 2 * plugin->limit_ns;
    while (plugin->on && !search->done && clock_now_ns() < end_ns)
        wait_for_plugin(plugin, end_ns);
}

/* Nobody asks on behalf of the search any more. Whether it is the caller's to be freed. */
static bool give_up(struct plugin *plugin, struct plugin_search *search) {
    if (!search->begun) {
        TAILQ_REMOVE(&plugin->searches, search, link);
        return true;
    }
    pthread_mutex_unlock(&plugin->lock);
    pthread_mutex_lock(&search->asking);
    pthread_mutex_lock(&plugin->lock);
    search->given_up = !search->done;
    pthread_mutex_unlock(&search->asking);
    return search->done;
}

ptrdiff_t plugin_index_search(struct plugin_index *index, const struct kvq_retriever_query *query,
                              struct kvq_retriever_hit *hits) {
    struct plugin *plugin = index->plugin;
    struct plugin_search *search = search_new(index, query);
    ptrdiff_t count = -1;
    if (!search)
        return -1;
    pthread_mutex_lock(&plugin->lock);
    bool mine = !plugin->on || !index->is_open;
    if (!mine) {
        plugin->status.searches++;
        TAILQ_INSERT_TAIL(&plugin->searches, search, link);
        pthread_cond_signal(&plugin->work);
        await_answer(plugin, search);
        mine = search->done || give_up(plugin, search);
        if (mine && search->done && plugin->on)
            count = search->count;
    }
    pthread_mutex_unlock(&plugin->lock);
    if (count > 0)
        memcpy(hits, search->hits,
               ((size_t)count < query->k ? (size_t)count : query->k) * sizeof *hits);
    if (mine)
        plugin_search_free(search);
    return count;
}

void plugin_index_judge(struct plugin_index *index, size_t dropped_hits) {
    struct plugin *plugin = index->plugin;
    pthread_mutex_lock(&plugin->lock);
    plugin->status.dropped_hits += dropped_hits;
    plugin->status.faulty_answers += dropped_hits > 0;
    plugin->faults = dropped_hits > 0 ? plugin->faults + 1 : 0;
    if (plugin->faults >= FAULTS_MOST)
        plugin_switch_off(plugin, "answered with faults again and again");
    pthread_mutex_unlock(&plugin->lock);
}
