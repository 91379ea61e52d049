#include "daemon/recall/plugin_thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/recall/plugin_files.h"

#define LONG_CALL_NS (60 * CLOCK_NS_PER_S) /* that reads or writes a file of gigabytes */

/* --- loading --- */

/* What the shared object exports is wrong, or NULL. */
static const char *fault_of(const struct kvq_retriever *calls) {
    if (!calls)
        return "it exports no " KVQ_RETRIEVER_SYMBOL;
    if (calls->version != KVQ_RETRIEVER_VERSION)
        return "it is for another version of kvq_retriever.h";
    if (!calls->name || !calls->open || !calls->close || !calls->add || !calls->remove ||
        !calls->search || !calls->memory_bytes)
        return "functions are missing";
    return !calls->save == !calls->load ? NULL : "it has one of save and load only";
}

/* Splits "PATH OPTIONS" where the path ends. */
static void split(struct plugin *plugin, const char *path_and_options) {
    memcpy(plugin->path, path_and_options, strlen(path_and_options) + 1);
    char *blank = strpbrk(plugin->path, " \t");
    plugin->options = blank ? blank + 1 + strspn(blank + 1, " \t") : "";
    if (blank)
        *blank = '\0';
}

static int load(struct plugin *plugin, char *message, int message_bytes) {
    const char *fault = "it is no absolute path";
    if (plugin->path[0] == '/') {
        plugin->library = dlopen(plugin->path, RTLD_NOW | RTLD_LOCAL);
        fault = plugin->library ? NULL : dlerror();
    }
    if (!fault) {
        plugin->calls = dlsym(plugin->library, KVQ_RETRIEVER_SYMBOL);
        fault = fault_of(plugin->calls);
    }
    if (fault)
        snprintf(message, (size_t)message_bytes, "%s: %s", plugin->path, fault);
    return fault ? -1 : 0;
}

static void plugin_delete(struct plugin *plugin) {
    if (plugin->library)
        dlclose(plugin->library);
    pthread_cond_destroy(&plugin->progress);
    pthread_cond_destroy(&plugin->work);
    pthread_mutex_destroy(&plugin->lock);
    free(plugin->directory);
    free(plugin);
}

static struct plugin *plugin_new(const struct plugin_options *options) {
    struct plugin *plugin = calloc(1, sizeof *plugin + strlen(options->path_and_options) + 1);
    if (!plugin)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&plugin->lock, NULL);
    pthread_cond_init(&plugin->work, NULL);
    pthread_cond_init(&plugin->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
    TAILQ_INIT(&plugin->indexes);
    TAILQ_INIT(&plugin->searches);
    plugin->limit_ns = options->timeout_ms * CLOCK_NS_PER_MS;
    plugin->budget = options->budget;
    plugin->loaded = time(NULL);
    split(plugin, options->path_and_options);
    if (options->directory && !(plugin->directory = strdup(options->directory))) {
        plugin_delete(plugin);
        return NULL;
    }
    return plugin;
}

/* A file that another one has saved is not given to it. */
static uint64_t build_of(const struct plugin *plugin) {
    struct stat status;
    if (stat(plugin->path, &status) < 0)
        return 0;
    const int64_t file[] = {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    uint64_t hash = XXH3_64bits(file, sizeof file);
    hash = XXH3_64bits_withSeed(plugin->path, strlen(plugin->path), hash);
    return XXH3_64bits_withSeed(plugin->options, strlen(plugin->options), hash);
}

struct plugin *plugin_load(const struct plugin_options *options, char *message, int message_bytes) {
    struct plugin *plugin = plugin_new(options);
    if (!plugin) {
        snprintf(message, (size_t)message_bytes, "%s", strerror(ENOMEM));
        return NULL;
    }
    if (load(plugin, message, message_bytes) < 0) {
        plugin_delete(plugin);
        return NULL;
    }
    plugin->on = true;
    plugin->build = build_of(plugin);
    plugin->status.name = plugin->calls->name;
    int error = pthread_create(&plugin->thread, NULL, plugin_thread_run, plugin);
    if (error == 0)
        return plugin;
    snprintf(message, (size_t)message_bytes, "%s", strerror(error));
    plugin_delete(plugin);
    return NULL;
}

void plugin_set_timeout(struct plugin *plugin, uint64_t timeout_ms) {
    pthread_mutex_lock(&plugin->lock);
    plugin->limit_ns = timeout_ms * CLOCK_NS_PER_MS;
    pthread_mutex_unlock(&plugin->lock);
}

static bool await_end(struct plugin *plugin) {
    pthread_mutex_lock(&plugin->lock);
    uint64_t end_ns = clock_now_ns() + plugin->limit_ns;
    struct timespec at = {(time_t)(end_ns / CLOCK_NS_PER_S), (long)(end_ns % CLOCK_NS_PER_S)};
    plugin->stopping = true;
    pthread_cond_signal(&plugin->work);
    while (!plugin->ended && pthread_cond_timedwait(&plugin->progress, &plugin->lock, &at) == 0)
        ;
    bool ended = plugin->ended;
    pthread_mutex_unlock(&plugin->lock);
    return ended;
}

void plugin_free(struct plugin *plugin) {
    if (!await_end(plugin)) {
        log_warning("recall plugin %s: a call does not return; it is left behind",
                    plugin->status.name);
        pthread_detach(plugin->thread);
        return;
    }
    pthread_join(plugin->thread, NULL);
    if (plugin->directory)
        plugin_files_sweep(plugin->directory, plugin->loaded);
    plugin_delete(plugin);
}

struct plugin_status plugin_status(struct plugin *plugin) {
    const struct plugin_index *index;
    pthread_mutex_lock(&plugin->lock);
    struct plugin_status status = plugin->status;
    status.on = plugin->on;
    TAILQ_FOREACH(index, &plugin->indexes, link)
    status.memory_bytes += index->usage.bytes;
    pthread_mutex_unlock(&plugin->lock);
    return status;
}

/* --- switching off --- */

void plugin_rows_move(struct plugin_rows *rows, struct plugin_list *list) {
    if (rows->list)
        TAILQ_REMOVE(rows->list, rows, link);
    rows->list = list;
    if (list)
        TAILQ_INSERT_TAIL(list, rows, link);
}

void plugin_drop(struct plugin *plugin, struct plugin_index *index, struct plugin_rows *rows) {
    plugin_rows_move(rows, NULL);
    index->usage.rows -= rows->indexed;
    plugin->dropping++;
    pthread_mutex_unlock(&plugin->lock);
    index->dropped(rows);
    pthread_mutex_lock(&plugin->lock);
    plugin->dropping--;
    pthread_cond_broadcast(&plugin->progress);
}

static struct plugin_rows *any_rows(struct plugin_index *index) {
    struct plugin_rows *rows = index->current;
    index->current = NULL;
    rows = rows ? rows : TAILQ_FIRST(&index->removing);
    rows = rows ? rows : TAILQ_FIRST(&index->adding);
    return rows ? rows : TAILQ_FIRST(&index->added);
}

/* An index that has rows still; while they are dropped the list of indexes may change. */
static struct plugin_index *find_rows(struct plugin *plugin, struct plugin_rows **rows) {
    struct plugin_index *index = TAILQ_FIRST(&plugin->indexes);
    while (index && !(*rows = any_rows(index)))
        index = TAILQ_NEXT(index, link);
    return index;
}

void plugin_switch_off(struct plugin *plugin, const char *why) {
    struct plugin_index *index;
    struct plugin_rows *rows;
    if (!plugin->on)
        return;
    plugin->on = false;
    log_error("recall plugin %s %s: it is switched off until the next start, and the exact index "
              "answers",
              plugin->status.name, why);
    while ((index = find_rows(plugin, &rows)))
        plugin_drop(plugin, index, rows);
    pthread_cond_signal(&plugin->work);
    pthread_cond_broadcast(&plugin->progress);
}

uint64_t plugin_call_limit_ns(const struct plugin *plugin) {
    bool is_long = plugin->call_is_long && plugin->limit_ns < LONG_CALL_NS;
    return is_long ? LONG_CALL_NS : plugin->limit_ns;
}

void plugin_check_time(struct plugin *plugin) {
    if (!plugin->on || plugin->call_began_ns == 0 ||
        clock_now_ns() - plugin->call_began_ns <= plugin_call_limit_ns(plugin))
        return;
    plugin->status.timeouts++;
    plugin_switch_off(plugin, "did not answer in time");
}
