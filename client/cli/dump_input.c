#include "client/cli/dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

/* --- its bytes --- */

/* Standard input, and what is no file, goes to memory first. */
static int copy_to_memory(int from) {
    char *buffer = malloc(COPY_BYTES);
    int memory = buffer ? memfd_create("kvq-restore", MFD_CLOEXEC) : -1;
    ssize_t count = -1;
    while (memory >= 0 && (count = read(from, buffer, COPY_BYTES)) > 0)
        if (write(memory, buffer, (size_t)count) != count) {
            count = -1;
            break;
        }
    free(buffer);
    if (count == 0 || memory < 0)
        return memory;
    close(memory);
    return -1;
}

static bool map_bytes(const char *path, int file, struct dump_input *input) {
    struct stat status;
    void *map = MAP_FAILED;
    if (fstat(file, &status) == 0 && status.st_size > 0)
        map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    else if (status.st_size == 0)
        errno = ENODATA;
    if (map == MAP_FAILED) {
        complain("%s: %s", path, errno == ENODATA ? "is empty, and no dump" : strerror(errno));
        return false;
    }
    input->bytes = map;
    input->count = (size_t)status.st_size;
    return true;
}

static bool open_bytes(const char *path, struct dump_input *input) {
    struct stat status;
    bool standard = strcmp(path, "-") == 0;
    int file = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), memory = -1;
    if (file >= 0 && (fstat(file, &status) || !S_ISREG(status.st_mode) || standard))
        memory = copy_to_memory(file);
    else
        memory = file;
    bool opened = memory >= 0 && map_bytes(path, memory, input);
    if (memory < 0)
        complain("%s: %s", path, strerror(errno));
    if (memory >= 0 && memory != file)
        close(memory);
    if (file > STDIN_FILENO)
        close(file);
    return opened;
}

/* --- what they hold --- */

struct scan {
    struct dump_input *input;
    struct wire_dump_reader reader;
    struct dump_entry entry; /* of the session at hand */
    const uint8_t *part;     /* what the part at hand holds */
    uint64_t sessions_bytes, chain;
    uint32_t parts; /* of the session; 0: none is at hand */
    bool closed;
};

/* No control characters, which a terminal would obey. */
static bool is_name(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        bool is_c1 = i > 0 && (uint8_t)text[i - 1] == 0xc2 && byte >= 0x80 && byte < 0xa0;
        if (byte < ' ' || byte == 0x7f || is_c1)
            return false;
    }
    return bytes > 0;
}

static bool begin_session(struct scan *scan) {
    struct wire_dump_session *said = &scan->entry.said;
    return scan->parts == 0 && wire_dump_read_session(scan->part, scan->reader.part.bytes, said) &&
           is_name(said->session, said->session_bytes) && is_name(said->model, said->model_bytes) &&
           is_name(said->tenant, said->tenant_bytes);
}

static bool end_session(struct scan *scan) {
    struct dump_input *input = scan->input;
    struct wire_dump_totals totals = wire_dump_read_totals(scan->part);
    scan->entry.bytes = scan->reader.bytes;
    if (totals.parts != scan->parts - 1)
        return false;
    struct dump_entry *entries =
        reallocarray(input->entries, input->entry_count + 1, sizeof *entries);
    if (!entries)
        return false;
    input->entries = entries;
    entries[input->entry_count++] = scan->entry;
    scan->sessions_bytes += scan->entry.bytes;
    scan->chain = wire_dump_chain(scan->chain, scan->reader.chain);
    scan->entry = (struct dump_entry){.offset = scan->sessions_bytes};
    scan->reader = (struct wire_dump_reader){0};
    scan->parts = 0;
    return true;
}

static bool close_file(struct scan *scan) {
    struct wire_dump_closing closing = wire_dump_read_closing(scan->part);
    scan->closed = scan->parts == 0 && closing.sessions == scan->input->entry_count &&
                   closing.bytes == scan->sessions_bytes && closing.chain == scan->chain;
    return scan->closed;
}

/* Sizes are checked as a part begins: what it holds is read when it has ended. */
static bool may_begin(const struct scan *scan) {
    const struct wire_dump_part *part = &scan->reader.part;
    bool is_first = part->kind == WIRE_DUMP_SESSION || part->kind == WIRE_DUMP_CLOSING;
    if (part->number != scan->parts || is_first != (part->number == 0) ||
        (part->kind == WIRE_DUMP_END && part->bytes != WIRE_DUMP_END_BYTES) ||
        (part->kind == WIRE_DUMP_CLOSING && part->bytes != WIRE_DUMP_CLOSING_BYTES))
        return false;
    return part->kind >= WIRE_DUMP_SESSION && part->kind <= WIRE_DUMP_CLOSING;
}

static bool end_part(struct scan *scan) {
    enum wire_dump_kind kind = scan->reader.part.kind;
    if (kind == WIRE_DUMP_CLOSING)
        return close_file(scan);
    if (kind == WIRE_DUMP_SESSION && !begin_session(scan))
        return false;
    scan->parts++;
    return kind != WIRE_DUMP_END || end_session(scan);
}

/* The next event at `at`, which it moves on. */
static bool take(struct scan *scan, size_t *at, bool *newer) {
    const struct dump_input *input = scan->input;
    struct wire_dump_bytes held;
    size_t taken;
    enum wire_dump_event event =
        wire_dump_read(&scan->reader, input->bytes + *at, input->count - *at, &taken, &held);
    *at += taken;
    *newer = event == WIRE_DUMP_NEWER;
    switch (event) {
    case WIRE_DUMP_BEGINS:
        scan->part = input->bytes + *at;
        return may_begin(scan);
    case WIRE_DUMP_ENDS:
        return end_part(scan);
    case WIRE_DUMP_HOLDS:
    case WIRE_DUMP_MORE:
        return true;
    default:
        return false;
    }
}

static bool read_entries(const char *path, struct dump_input *input) {
    struct scan scan = {.input = input};
    bool newer = false;
    size_t at = 0;
    while (at < input->count && !scan.closed) {
        if (take(&scan, &at, &newer))
            continue;
        if (newer)
            complain("%s: is of a newer version than this kvq reads (%d)", path, WIRE_DUMP_VERSION);
        else
            complain("%s: is damaged, or no dump: at byte %zu", path, at);
        return false;
    }
    if (scan.closed && at == input->count)
        return true;
    complain(scan.closed ? "%s: goes on behind its end, at byte %zu"
                         : "%s: is not whole: it ends at byte %zu",
             path, at);
    return false;
}

bool dump_input_open(const char *path, struct dump_input *input) {
    *input = (struct dump_input){0};
    return open_bytes(path, input) && read_entries(path, input);
}

void dump_input_close(struct dump_input *input) {
    if (input->bytes)
        munmap((void *)input->bytes, input->count);
    free(input->entries);
    *input = (struct dump_input){0};
}

char *dump_text(const char *text, size_t bytes) {
    return strndup(text, bytes);
}
