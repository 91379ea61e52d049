/* The thread that calls the plugin: closes, searches, and then what can wait. */
#include "daemon/recall/plugin_thread.h"

#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/recall/plugin_files.h"

/* Searches come between: so few rows at a time. */
enum { ROWS_AT_ONCE = 16 };

static const char no_memory[] = "takes more than is left of `memory`";

static void begin_call(struct plugin *plugin) {
    plugin->call_began_ns = clock_now_ns();
    pthread_mutex_unlock(&plugin->lock);
}

static void begin_long_call(struct plugin *plugin) {
    plugin->call_is_long = true;
    begin_call(plugin);
}

/* Whether the plugin is still on: if not, nobody knows of what the call was about. */
static bool end_call(struct plugin *plugin) {
    pthread_mutex_lock(&plugin->lock);
    plugin_check_time(plugin);
    plugin->call_began_ns = 0;
    plugin->call_is_long = false;
    pthread_cond_broadcast(&plugin->progress);
    return plugin->on;
}

/* Takes of the budget, or gives back, what the plugin says by now. False at the memory limit.
 * During a call: what is released is told to others. */
static bool account(const struct plugin *plugin, struct plugin_index *index) {
    uint64_t bytes = plugin->calls->memory_bytes(index->opened), charged = index->charged_bytes;
    if (plugin->budget && bytes > charged && !budget_reserve(plugin->budget, bytes - charged))
        return false;
    if (plugin->budget && bytes < charged)
        budget_release(plugin->budget, charged - bytes);
    index->charged_bytes = bytes;
    return true;
}

/* The same of a call about an index. */
static bool end_index_call(struct plugin *plugin, struct plugin_index *index) {
    bool on = end_call(plugin);
    index->usage.bytes = index->charged_bytes;
    return on;
}

/* --- opening and closing --- */

/* False at the memory limit. */
static bool load_index(struct plugin *plugin, struct plugin_index *index) {
    char path[PLUGIN_FILE_BYTES];
    if (!plugin->directory || !plugin->calls->load)
        return true;
    begin_long_call(plugin);
    bool is_there = plugin_files_take(plugin->directory, index->identity, path);
    bool is_loaded = is_there && plugin->calls->load(index->opened, path) == 0;
    if (is_there)
        unlink(path);
    bool fits = account(plugin, index);
    end_index_call(plugin, index);
    if (is_there)
        log_info("recall plugin %s: the index of %u dimensions that was saved %s",
                 plugin->status.name, index->format.dim,
                 is_loaded ? "is loaded" : "cannot be loaded, and is made anew");
    return fits;
}

static void save_index(struct plugin *plugin, const struct plugin_index *index) {
    char path[PLUGIN_FILE_BYTES];
    if (!plugin->on || !index->saves || !plugin->directory || !plugin->calls->save)
        return;
    begin_long_call(plugin);
    bool is_saved = plugin_files_begin(plugin->directory, path) == 0 &&
                    plugin->calls->save(index->opened, path) == 0 &&
                    plugin_files_keep(plugin->directory, index->identity) == 0;
    if (!is_saved)
        unlink(path);
    end_call(plugin);
    if (!is_saved)
        log_warning("recall plugin %s could not save an index: it is made anew at the next start",
                    plugin->status.name);
}

static void open_index(struct plugin *plugin, struct plugin_index *index) {
    struct kvq_retriever_options options = {.size = sizeof options,
                                            .dim = index->format.dim,
                                            .dtype = index->format.dtype,
                                            .metric = index->format.metric,
                                            .options = plugin->options};
    begin_call(plugin);
    bool is_open = plugin->calls->open(&options, &index->opened) == 0;
    bool fits = !is_open || account(plugin, index);
    end_index_call(plugin, index);
    index->is_open = is_open;
    if (is_open && fits)
        fits = load_index(plugin, index);
    if (!is_open || !fits)
        plugin_switch_off(plugin, fits ? "could not open an index" : no_memory);
}

static void close_index(struct plugin *plugin, struct plugin_index *index) {
    if (index->is_open) {
        save_index(plugin, index);
        begin_call(plugin);
        plugin->calls->close(index->opened);
        if (plugin->budget)
            budget_release(plugin->budget, index->charged_bytes);
        index->charged_bytes = 0;
        end_index_call(plugin, index);
    }
    index->is_open = false;
    index->closed = true;
    pthread_cond_broadcast(&plugin->progress);
}

/* --- rows --- */

static void keep_added(struct plugin *plugin, struct plugin_index *index, size_t count) {
    struct plugin_rows *rows = index->current;
    index->current = NULL;
    rows->indexed += count;
    index->usage.rows += count;
    plugin_rows_move(rows, rows->removed                 ? &index->removing
                           : rows->indexed < rows->count ? &index->adding
                                                         : &index->added);
    pthread_cond_broadcast(&plugin->progress);
}

static void add_some(struct plugin *plugin, struct plugin_index *index) {
    struct plugin_rows *rows = TAILQ_FIRST(&index->adding);
    size_t left = rows->count - rows->indexed, first = rows->indexed;
    size_t count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
    const char *vectors = (const char *)rows->vectors + first * vectors_row_bytes(&index->format);
    plugin_rows_move(rows, NULL);
    index->current = rows;
    uint64_t first_id = rows->first_id + first;
    begin_call(plugin);
    int status = plugin->calls->add(index->opened, first_id, vectors, count);
    bool fits = account(plugin, index);
    if (!end_index_call(plugin, index))
        return;
    if (status == 0 && fits)
        keep_added(plugin, index, count);
    else
        plugin_switch_off(plugin, fits ? "could not add a row" : no_memory);
}

static void remove_some(struct plugin *plugin, struct plugin_index *index) {
    struct plugin_rows *rows = TAILQ_FIRST(&index->removing);
    uint64_t first_id = rows->first_id;
    size_t count = rows->indexed;
    plugin_rows_move(rows, NULL);
    index->current = rows;
    begin_call(plugin);
    int status = plugin->calls->remove(index->opened, first_id, count);
    bool fits = account(plugin, index);
    if (!end_index_call(plugin, index))
        return;
    if (status != 0 || !fits) {
        plugin_switch_off(plugin, fits ? "could not remove rows" : no_memory);
        return;
    }
    index->current = NULL;
    plugin_drop(plugin, index, rows);
}

/* --- searches --- */

static bool ask(void *context, uint64_t id) {
    struct plugin_search *search = context;
    pthread_mutex_lock(&search->asking);
    bool wanted = !search->given_up && search->wanted(search->context, id);
    pthread_mutex_unlock(&search->asking);
    return wanted;
}

static void run_search(struct plugin *plugin) {
    struct plugin_search *search = TAILQ_FIRST(&plugin->searches);
    TAILQ_REMOVE(&plugin->searches, search, link);
    search->begun = true;
    search->query.wanted = ask;
    search->query.context = search;
    void *opened = search->index->opened;
    begin_call(plugin);
    search->count = plugin->calls->search(opened, &search->query, search->hits);
    end_call(plugin);
    search->done = true;
    bool given_up = search->given_up;
    if (search->count < 0)
        plugin_switch_off(plugin, "could not search");
    if (given_up)
        plugin_search_free(search);
}

/* --- what comes next --- */

static bool has_work(const struct plugin_index *index) {
    bool has_rows = !TAILQ_EMPTY(&index->adding) || !TAILQ_EMPTY(&index->removing);
    return has_rows && !index->closing;
}

static struct plugin_index *next_to_close(struct plugin *plugin) {
    struct plugin_index *index = TAILQ_FIRST(&plugin->indexes);
    while (index && (index->closed || (plugin->on && !index->closing)))
        index = TAILQ_NEXT(index, link);
    return index;
}

/* The indexes take turns. */
static struct plugin_index *next_with_work(struct plugin *plugin) {
    struct plugin_index *index = TAILQ_FIRST(&plugin->indexes);
    while (index && !has_work(index))
        index = TAILQ_NEXT(index, link);
    if (index) {
        TAILQ_REMOVE(&plugin->indexes, index, link);
        TAILQ_INSERT_TAIL(&plugin->indexes, index, link);
    }
    return index;
}

static void work_on(struct plugin *plugin, struct plugin_index *index) {
    if (!index->is_open)
        open_index(plugin, index);
    else if (!TAILQ_EMPTY(&index->removing))
        remove_some(plugin, index);
    else
        add_some(plugin, index);
}

static void free_orphan(struct plugin *plugin, struct plugin_index *index) {
    if (!index->orphaned)
        return;
    TAILQ_REMOVE(&plugin->indexes, index, link);
    free(index);
}

/* False if there was nothing to do. */
static bool step(struct plugin *plugin) {
    struct plugin_index *index = next_to_close(plugin);
    if (index) {
        close_index(plugin, index);
        free_orphan(plugin, index);
        return true;
    }
    if (!plugin->on)
        return false;
    if (!TAILQ_EMPTY(&plugin->searches)) {
        run_search(plugin);
        return true;
    }
    index = next_with_work(plugin);
    if (index)
        work_on(plugin, index);
    return index != NULL;
}

void *plugin_thread_run(void *context) {
    struct plugin *plugin = context;
    pthread_setname_np(pthread_self(), "recall plugin");
    pthread_mutex_lock(&plugin->lock);
    while (!plugin->stopping)
        if (!step(plugin))
            pthread_cond_wait(&plugin->work, &plugin->lock);
    plugin->ended = true;
    pthread_cond_broadcast(&plugin->progress);
    pthread_mutex_unlock(&plugin->lock);
    return NULL;
}
