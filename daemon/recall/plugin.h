/* A retriever plugin: a shared object that is asked on a thread of its own, with a time limit.
 *
 * retriever.h uses it; the daemon loads one and looks at its numbers. Safe from any thread.
 */
#ifndef DAEMON_RECALL_PLUGIN_H
#define DAEMON_RECALL_PLUGIN_H

#include <stdbool.h>
#include <stdint.h>

struct plugin;
struct budget;

struct plugin_options {
    const char *path_and_options; /* "PATH [OPTIONS]" */
    uint64_t timeout_ms;
    struct budget *budget; /* that the plugin's memory is taken from; NULL: from none */
    const char *directory; /* where its indexes are saved at the end; NULL: nowhere */
};

/* Loads it, and starts its thread. NULL with the reason in message: no such file, no plugin,
 * another version, functions missing. */
struct plugin *plugin_load(const struct plugin_options *options, char *message, int message_bytes);

/* From now on. */
void plugin_set_timeout(struct plugin *plugin, uint64_t timeout_ms);

/* Ends the thread, once all retrievers are freed. One that is stuck in the plugin is left behind.
 */
void plugin_free(struct plugin *plugin);

struct plugin_status {
    const char *name;
    bool on; /* else switched off */
    uint64_t searches, timeouts, faulty_answers, dropped_hits;
    uint64_t memory_bytes; /* of its indexes */
};

struct plugin_status plugin_status(struct plugin *plugin);

#endif
