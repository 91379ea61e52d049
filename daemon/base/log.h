/* The daemon's log: one message a line, filtered by level, safe to use from any thread.
 *
 * To the journal, where standard error is connected to it (JOURNAL_STREAM, systemd.exec(5)), each
 * with its fields; else to standard error as text, the fields behind the sentence as name=value.
 * K, V and tokens are never logged.
 */
#ifndef DAEMON_BASE_LOG_H
#define DAEMON_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What a message is about, as far as known: NULL or empty where not. In the journal these are
 * KVQ_PEER, KVQ_CLIENT, KVQ_OPERATION, KVQ_SESSION and KVQ_ERROR. */
struct log_fields {
    const char *peer, *client, *operation, *session, *error;
};

/* Finds out where the log goes. Before the threads start. */
void log_init(enum log_level level);

/* At any time. */
void log_set_level(enum log_level level);

/* Whether messages of this level are written. */
bool log_is_on(enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_about(enum log_level level, const struct log_fields *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
