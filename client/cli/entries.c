#include "client/cli/entries.h"

#include "client/cli/command.h"
#include "client/cli/file_map.h"
#include "client/cli/words.h"

#include <stdlib.h>
#include <string.h>

/* Ends the text at this character, and gives what is behind it; NULL: there is none. */
static char *cut(char *text, char at) {
    char *end = strchr(text, at);
    if (!end)
        return NULL;
    *end = '\0';
    return end + 1;
}

static bool take_range(const char *text, struct kvq_entry *entry) {
    uint64_t end;
    if (!number_prefix(text, &text, &entry->first) || *text++ != ':' ||
        !number_from_text(text, &end) || end <= entry->first || end - entry->first > UINT32_MAX)
        return false;
    entry->tokens = (uint32_t)(end - entry->first);
    return true;
}

static bool take_line(char *line, struct kvq_entry *entry) {
    char *label = cut(line, '\t'), *metadata = label ? cut(label, '\t') : NULL;
    *entry = (struct kvq_entry){
        .label = label, .metadata = metadata, .metadata_bytes = metadata ? strlen(metadata) : 0};
    return take_range(line, entry);
}

static size_t count_lines(const char *text) {
    size_t lines = 1;
    while ((text = strchr(text, '\n')))
        text++, lines++;
    return lines;
}

static bool take_lines(const char *path, struct entries *entries) {
    char *line = entries->text;
    while (line && *line) {
        char *next = cut(line, '\n');
        if (!take_line(line, &entries->entries[entries->count++])) {
            complain("%s: line %zu is not A:B, such as 128:256", path, entries->count);
            return false;
        }
        line = next;
    }
    return true;
}

static bool copy(const char *path, struct entries *entries) {
    struct file_map map;
    if (!file_map_open(path, &map))
        return false;
    entries->text = malloc(map.count + 1);
    if (entries->text) {
        memcpy(entries->text, map.bytes, map.count);
        entries->text[map.count] = '\0';
        entries->entries = calloc(count_lines(entries->text), sizeof *entries->entries);
    }
    file_map_close(&map);
    if (entries->entries)
        return true;
    complain("no memory for the ranges of %s", path);
    return false;
}

bool entries_open(const char *path, struct entries *entries) {
    *entries = (struct entries){0};
    return copy(path, entries) && take_lines(path, entries);
}

void entries_close(struct entries *entries) {
    free(entries->entries);
    free(entries->text);
}
