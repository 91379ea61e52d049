/* Files in which a plugin's indexes are kept from one run of the daemon to the next.
 *
 * A name says of which index a file is, and what the hash of its bytes is. A file is used once:
 * what is there when the daemon starts is as it was when the daemon before ended in order, or is
 * not.
 */
#ifndef DAEMON_RECALL_PLUGIN_FILES_H
#define DAEMON_RECALL_PLUGIN_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { PLUGIN_FILE_BYTES = 4096 };

/* The path of the whole file of that index, which has a name of its own by now: to be removed once
 * it is loaded, and not found again should that end the daemon. False if there is none. */
bool plugin_files_take(const char *directory, uint64_t index, char path[PLUGIN_FILE_BYTES]);

/* Where an index is saved to: a file that its owner alone can read. 0 or -1. */
int plugin_files_begin(const char *directory, char path[PLUGIN_FILE_BYTES]);

/* What was saved there is that index's file. 0 or -1. */
int plugin_files_keep(const char *directory, uint64_t index);

/* Removes files that nobody has taken since then: of models, options or plugins that are gone. */
void plugin_files_sweep(const char *directory, time_t since);

#endif
