/* Reads a table of credentials: lines of `user|group|token|certificate WHO TENANT ROLE`, and of
 * limits. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/array.h"
#include "daemon/base/credential_file.h"
#include "daemon/rpc/credentials.h"

enum { FILE_BYTES_MAX = 1 << 20, WORDS = 4, WORDS_MOST = 16 };

/* NULL, or why what it says cannot be trusted. */
static const char *looseness(int file) {
    struct stat status;
    if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode))
        return "is not a file";
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return "belongs to somebody else";
    if (status.st_size > FILE_BYTES_MAX)
        return "is larger than 1 MiB";
    return status.st_mode & 022 ? "can be written by others: chmod go-w it" : NULL;
}

/* All of it, as a string that is the caller's; NULL, with what is wrong in message. */
static char *read_file(const char *file, char *message, size_t message_bytes) {
    bool is_managers; /* whose file is looked at like any other */
    int opened = credential_file_open(file, &is_managers);
    if (opened < 0) {
        snprintf(message, message_bytes, "%s: cannot be read: %s", file, strerror(errno));
        return NULL;
    }
    const char *loose = looseness(opened);
    char *text = loose ? NULL : calloc(1, FILE_BYTES_MAX + 1);
    ssize_t bytes = 0;
    for (size_t at = 0; text && at < FILE_BYTES_MAX; at += (size_t)bytes)
        if ((bytes = read(opened, text + at, FILE_BYTES_MAX - at)) <= 0)
            break;
    close(opened);
    if (text && bytes == 0)
        return text;
    free(text);
    snprintf(message, message_bytes, "%s: %s", file, loose ? loose : "cannot be read");
    return NULL;
}

static bool read_digest(const char *text, uint8_t digest[CREDENTIAL_DIGEST_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    if (strlen(text) != 2 * CREDENTIAL_DIGEST_BYTES ||
        strspn(text, digits) != 2 * CREDENTIAL_DIGEST_BYTES)
        return false;
    for (int i = 0; i < CREDENTIAL_DIGEST_BYTES; i++) {
        long high = strchr(digits, text[2 * i]) - digits;
        long low = strchr(digits, text[2 * i + 1]) - digits;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_number(const char *text, uint32_t *number) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *number = (uint32_t)value;
    return strspn(text, "0123456789") > 0 && !*end && errno == 0 && value < UINT32_MAX;
}

static bool read_user(const char *name, struct credential *row) {
    row->is_any = strcmp(name, "*") == 0;
    if (row->is_any || read_number(name, &row->id))
        return true;
    const struct passwd *user = getpwnam(name);
    if (user)
        row->id = user->pw_uid;
    return user != NULL;
}

static bool read_group(const char *name, struct credential *row) {
    if (read_number(name, &row->id))
        return true;
    const struct group *group = getgrnam(name);
    if (group)
        row->id = group->gr_gid;
    return group != NULL;
}

static bool read_subject(const char *subject, struct credential *row) {
    int bytes = snprintf(row->subject, sizeof row->subject, "%s", subject);
    return bytes > 0 && bytes < (int)sizeof row->subject;
}

/* NULL, or what is wrong. A token's digest is not repeated: it may be the token itself. */
static const char *read_who(const char *kind, const char *who, struct credential *row) {
    if (strcmp(kind, "user") == 0) {
        row->kind = CREDENTIAL_USER;
        return read_user(who, row) ? NULL : "there is no such user";
    }
    if (strcmp(kind, "group") == 0) {
        row->kind = CREDENTIAL_GROUP;
        return read_group(who, row) ? NULL : "there is no such group";
    }
    if (strcmp(kind, "certificate") == 0) {
        row->kind = CREDENTIAL_CERTIFICATE;
        return read_subject(who, row) ? NULL
                                      : "a certificate is given by its common name or its subject "
                                        "as RFC 2253 writes it, 1 to 255 bytes";
    }
    row->kind = CREDENTIAL_TOKEN;
    if (strcmp(kind, "token") != 0)
        return "a line is `user NAME TENANT ROLE`, `group NAME TENANT ROLE`, `token SHA256 TENANT "
               "ROLE`, `certificate SUBJECT TENANT ROLE` or `limit TENANT name=value ...`";
    return read_digest(who, row->digest) ? NULL
                                         : "a token is given by its SHA-256, 64 hexadecimal digits "
                                           "in lower case, as `kvq token` prints it";
}

static const char blanks[] = " \t\r";

/* The word that *rest begins with, or what stands between quotation marks; NULL at the line's end,
 * or where a comment begins. */
static char *next_word(char **rest, const char **fault) {
    char *word = *rest + strspn(*rest, blanks);
    if (*word == 0 || *word == '#')
        return NULL;
    bool is_quoted = *word == '"';
    word += is_quoted;
    size_t length = strcspn(word, is_quoted ? "\"" : " \t\r#");
    if (is_quoted && !word[length])
        *fault = "a quotation mark is not closed";
    *rest = word + length;
    if (**rest == '#') /* a comment may follow a word at once */
        **rest = 0;
    else if (**rest)
        *(*rest)++ = 0;
    return word;
}

/* How many there are in the line, WORDS_MOST at most. */
static int split(char *line, char *words[WORDS_MOST], const char **fault) {
    char *rest = line;
    int count = 0;
    while (count < WORDS_MOST && (words[count] = next_word(&rest, fault)))
        count++;
    return count;
}

/* NULL, or what is wrong. */
static const char *read_row(char *const *words, int count, struct credential *row) {
    *row = (struct credential){0};
    const char *fault = read_who(words[0], count > 1 ? words[1] : "", row);
    if (fault)
        return fault;
    if (count != WORDS)
        return "a line has four words: what, who, tenant and role";
    if (!tenant_is_name(words[2], strlen(words[2])))
        return "a tenant's name is 1 to 64 letters, digits, '.', '_' and '-'";
    snprintf(row->tenant, sizeof row->tenant, "%s", words[2]);
    row->role = role_of_name(words[3]);
    return row->role == ROLE_NONE ? "a role is reader, worker or admin" : NULL;
}

static const char too_many[] = "there are more lines than 4096";

/* A table that is being read, and room in it. */
struct reading {
    struct credentials_table *table;
    size_t rows, quotas;
};

static const char *add(struct reading *reading, char *const *words, int count) {
    struct credentials_table *table = reading->table;
    struct credential row, *grown = NULL;
    const char *fault = read_row(words, count, &row);
    if (fault)
        return fault;
    if (table->count < CREDENTIALS_MAX)
        grown = array_grow(table->rows, table->count, &reading->rows, sizeof *grown);
    if (!grown)
        return too_many;
    table->rows = grown;
    table->rows[table->count++] = row;
    table->tokens += row.kind == CREDENTIAL_TOKEN;
    table->certificates += row.kind == CREDENTIAL_CERTIFICATE;
    return NULL;
}

static const char *add_quota(struct reading *reading, char *const *words, int count) {
    struct credentials_table *table = reading->table;
    struct tenant_quota row, *grown = NULL;
    const char *fault = quota_row_read(words + 1, count - 1, &row);
    if (fault)
        return fault;
    if (table->quota_count < CREDENTIALS_MAX)
        grown = array_grow(table->quotas, table->quota_count, &reading->quotas, sizeof *grown);
    if (!grown)
        return too_many;
    table->quotas = grown;
    table->quotas[table->quota_count++] = row;
    return NULL;
}

/* NULL, or what is wrong. */
static const char *read_line(struct reading *reading, char *line) {
    const char *fault = NULL;
    char *words[WORDS_MOST];
    int count = split(line, words, &fault);
    if (fault || count == 0)
        return fault;
    return strcmp(words[0], "limit") == 0 ? add_quota(reading, words, count)
                                          : add(reading, words, count);
}

int credentials_read(struct credentials_table *table, const char *file, char *message,
                     size_t message_bytes) {
    *table = (struct credentials_table){0};
    char *text = read_file(file, message, message_bytes), *rest = text, *line;
    struct reading reading = {.table = table};
    const char *fault = NULL;
    int number = 0;
    while (!fault && text && (line = strsep(&rest, "\n"))) {
        number++;
        fault = read_line(&reading, line);
    }
    free(text);
    if (fault)
        snprintf(message, message_bytes, "%s:%d: %s", file, number, fault);
    if (text && !fault)
        return 0;
    credentials_free(table);
    return -1;
}
