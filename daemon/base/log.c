#include "daemon/base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static enum log_level threshold = LOG_LEVEL_INFO;
static bool for_journal;

void log_init(enum log_level level) {
    threshold = level;
    for_journal = getenv("JOURNAL_STREAM") != NULL;
}

__attribute__((format(printf, 2, 0))) static void
write_line(enum log_level level, const char *format, va_list arguments) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    static const int priorities[] = {3, 4, 6, 7};
    char message[1024];

    if (level > threshold)
        return;
    vsnprintf(message, sizeof message, format, arguments);
    if (for_journal)
        fprintf(stderr, "<%d>%s\n", priorities[level], message);
    else
        fprintf(stderr, "kvquantd: %s: %s\n", names[level], message);
}

void log_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_LEVEL_ERROR, format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_LEVEL_WARNING, format, arguments);
    va_end(arguments);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_LEVEL_INFO, format, arguments);
    va_end(arguments);
}

void log_debug(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_LEVEL_DEBUG, format, arguments);
    va_end(arguments);
}
