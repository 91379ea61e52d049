/* The daemon's log: one line a message to standard error, filtered by level.
 *
 * The level is set once, before the threads start. Under a service manager each line begins with
 * the syslog priority that the journal strips.
 */
#ifndef DAEMON_BASE_LOG_H
#define DAEMON_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
