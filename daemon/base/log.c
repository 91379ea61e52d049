#include "daemon/base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The place in this file that a message comes from tells nothing. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

enum { MESSAGE_BYTES = 1024, FIELDS = 5, FIELD_BYTES = 300, TEXT_BYTES = 4096 };

static _Atomic int threshold = LOG_LEVEL_INFO;
static bool to_journal;

/* Whether standard error is the stream that JOURNAL_STREAM names as DEVICE:INODE. */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    char expected[64];
    struct stat entry;
    if (!stream || fstat(STDERR_FILENO, &entry) < 0)
        return false;
    snprintf(expected, sizeof expected, "%llu:%llu", (unsigned long long)entry.st_dev,
             (unsigned long long)entry.st_ino);
    return strcmp(stream, expected) == 0;
}

void log_init(enum log_level level) {
    log_set_level(level);
    to_journal = stderr_is_journal();
}

void log_set_level(enum log_level level) {
    threshold = (int)level;
}

bool log_is_on(enum log_level level) {
    return (int)level <= threshold;
}

struct named_field {
    const char *text_name, *journal_name, *value;
};

/* Those of the fields that are known; returns how many. */
static int list_fields(const struct log_fields *fields, struct named_field list[FIELDS]) {
    const struct named_field all[FIELDS] = {
        {"peer", "KVQ_PEER", fields->peer},
        {"client", "KVQ_CLIENT", fields->client},
        {"operation", "KVQ_OPERATION", fields->operation},
        {"session", "KVQ_SESSION", fields->session},
        {"error", "KVQ_ERROR", fields->error},
    };
    int count = 0;
    for (int i = 0; i < FIELDS; i++)
        if (all[i].value && all[i].value[0])
            list[count++] = all[i];
    return count;
}

static void send_to_journal(enum log_level level, const char *message,
                            const struct named_field *fields, int count) {
    static const int priorities[] = {3, 4, 6, 7};
    char message_item[MESSAGE_BYTES + 16], priority_item[16], items[FIELDS][FIELD_BYTES];
    struct iovec vectors[FIELDS + 3];
    snprintf(message_item, sizeof message_item, "MESSAGE=%s", message);
    snprintf(priority_item, sizeof priority_item, "PRIORITY=%d", priorities[level]);
    vectors[0].iov_base = message_item;
    vectors[1].iov_base = priority_item;
    vectors[2].iov_base = "SYSLOG_IDENTIFIER=kvquantd";
    for (int i = 0; i < count; i++) {
        snprintf(items[i], FIELD_BYTES, "%s=%s", fields[i].journal_name, fields[i].value);
        vectors[i + 3].iov_base = items[i];
    }
    for (int i = 0; i < count + 3; i++)
        vectors[i].iov_len = strlen(vectors[i].iov_base);
    sd_journal_sendv(vectors, count + 3);
}

/* A value as it stands where it is one word, else in quotes. Returns the end. */
static char *write_value(char *at, const char *value) {
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "_-.,:;/@+#%[]";
    bool quoted = value[strspn(value, word)] != 0;
    if (quoted)
        *at++ = '"';
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            *at++ = '\\';
        *at++ = *value;
    }
    if (quoted)
        *at++ = '"';
    return at;
}

/* One write for the line, so that lines of several threads do not mix. */
static void write_to_stderr(enum log_level level, const char *message,
                            const struct named_field *fields, int count) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char text[MESSAGE_BYTES + TEXT_BYTES];
    char *at = text + snprintf(text, sizeof text, "kvquantd: %s: %s", names[level], message);
    for (int i = 0; i < count; i++) {
        char value[FIELD_BYTES];
        snprintf(value, sizeof value, "%s", fields[i].value);
        at += sprintf(at, " %s=", fields[i].text_name);
        at = write_value(at, value);
    }
    *at++ = '\n';
    fwrite(text, 1, (size_t)(at - text), stderr);
}

__attribute__((format(printf, 3, 0))) static void write_message(enum log_level level,
                                                                const struct log_fields *fields,
                                                                const char *format,
                                                                va_list arguments) {
    static const struct log_fields none;
    struct named_field list[FIELDS];
    char message[MESSAGE_BYTES];
    if (!log_is_on(level))
        return;
    vsnprintf(message, sizeof message, format, arguments);
    int count = list_fields(fields ? fields : &none, list);
    if (to_journal)
        send_to_journal(level, message, list, count);
    else
        write_to_stderr(level, message, list, count);
}

void log_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_message(LOG_LEVEL_ERROR, NULL, format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_message(LOG_LEVEL_WARNING, NULL, format, arguments);
    va_end(arguments);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_message(LOG_LEVEL_INFO, NULL, format, arguments);
    va_end(arguments);
}

void log_about(enum log_level level, const struct log_fields *fields, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_message(level, fields, format, arguments);
    va_end(arguments);
}
