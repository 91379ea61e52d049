#include "daemon/store/takeover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/store.h"
#include "daemon/store/takeover_parts.h"

static int read_note(int file, struct takeover_note *note) {
    uint8_t bytes[TAKEOVER_NOTE_BYTES];
    struct stat status;
    if (fstat(file, &status) < 0 || status.st_size < POOL_UNIT_BYTES ||
        pread(file, bytes, sizeof bytes, status.st_size - POOL_UNIT_BYTES) != sizeof bytes)
        return -1;
    return takeover_read_note(bytes, note);
}

__attribute__((format(printf, 2, 3))) static enum takeover_outcome
cold(struct takeover_report *report, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->why, sizeof report->why, format, arguments);
    va_end(arguments);
    return TAKEOVER_COLD;
}

/* TAKEOVER_DONE if nothing that the note says stands against it. */
static enum takeover_outcome look_at(int file, struct takeover_note *note,
                                     struct takeover_report *report) {
    if (read_note(file, note) < 0)
        return cold(report, "is no pool of this daemon, or is damaged");
    if (note->layout != TAKEOVER_LAYOUT)
        return cold(report, "is of layout %u, and this daemon takes over layout %d", note->layout,
                    TAKEOVER_LAYOUT);
    if (note->state == TAKEOVER_ENDED)
        return TAKEOVER_NONE;
    if (note->state != TAKEOVER_SAVED)
        return cold(report, "was in use when its daemon crashed or was killed");
    if (note->attempts >= TAKEOVER_ATTEMPTS_MAX) {
        cold(report, "has crashed the daemon %u times when it was taken over, and is set aside",
             note->attempts);
        return TAKEOVER_SET_ASIDE;
    }
    return TAKEOVER_DONE;
}

/* The index, where its checksum is right, or NULL. */
static const uint8_t *find_index(const struct takeover *takeover) {
    const struct takeover_note *note = &takeover->note;
    const struct pool_extent *extent = &note->index;
    const struct pool *pool = takeover->store->pool;
    if (extent->offset > pool_bytes(pool) || extent->bytes > pool_bytes(pool) - extent->offset)
        return NULL;
    const uint8_t *index = pool_memory(pool, extent);
    return record_hash(index, extent->bytes) == note->index_hash ? index : NULL;
}

/* Entries of chunks and attachments begin with an id. */
static bool are_ascending(const uint8_t *entries, size_t count, size_t entry_bytes) {
    uint64_t before = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t id = bytes_get(entries + i * entry_bytes, 8);
        if (id <= before)
            return false;
        before = id;
    }
    return true;
}

/* How many extents are in use. */
static size_t collect_extents(const struct takeover *takeover, struct pool_extent *extents) {
    size_t count = 0;
    for (size_t i = 0; i < takeover->head.chunks; i++) {
        struct takeover_chunk chunk = takeover_read_chunk(takeover_chunk_entry(takeover, i));
        extents[count] = chunk.extent;
        count += extents[count].bytes > 0;
        extents[count] = chunk.summary;
        count += extents[count].bytes > 0;
    }
    for (size_t i = 0; i < takeover->head.attachments; i++) {
        extents[count] = takeover_read_attachment(takeover_attachment_entry(takeover, i)).extent;
        count += extents[count].bytes > 0;
    }
    for (size_t i = 0; i < takeover->head.tails; i++)
        extents[count++] = takeover_read_tail(takeover_tail_entry(takeover, i)).extent;
    extents[count++] = takeover->note.index;
    return count;
}

static bool adopt_extents(const struct takeover *takeover) {
    const struct takeover_head *head = &takeover->head;
    size_t most = 2 * (size_t)head->chunks + head->attachments + head->tails + 1;
    struct pool_extent *extents = calloc(most, sizeof *extents);
    size_t count = extents ? collect_extents(takeover, extents) : 0;
    bool adopted =
        are_ascending(takeover_chunk_entry(takeover, 0), head->chunks, TAKEOVER_CHUNK_BYTES) &&
        are_ascending(takeover->attachment_entries, head->attachments, TAKEOVER_ATTACHMENT_BYTES) &&
        extents && pool_adopt(takeover->store->pool, extents, count) == 0;
    free(extents);
    return adopted;
}

static bool read_index(struct takeover *takeover) {
    struct takeover_head *head = &takeover->head;
    takeover->index = find_index(takeover);
    if (!takeover->index ||
        takeover_read_head(takeover->index, takeover->note.index.bytes, head) < 0)
        return false;
    takeover->attachment_entries = takeover_chunk_entry(takeover, head->chunks);
    takeover->tail_entries = takeover_attachment_entry(takeover, head->attachments);
    takeover->session_entries = takeover_tail_entry(takeover, head->tails);
    size_t most = (head->bytes / TAKEOVER_SESSION_BYTES) + 1;
    takeover->sessions = calloc(most, sizeof(struct session *));
    return takeover->sessions && takeover_provide_parts(takeover) && adopt_extents(takeover);
}

/* It counts as begun from here on, whatever the index does to the daemon. */
static enum takeover_outcome begin(struct takeover *takeover, int file,
                                   struct takeover_report *report) {
    struct store *store = takeover->store;
    const char *fault;
    store->pool = pool_open(&store->budget, file, &fault);
    if (!store->pool)
        return cold(report, "%s", fault);
    takeover->note.attempts++;
    takeover_write_note(pool_note(store->pool), &takeover->note);
    if (read_index(takeover))
        return TAKEOVER_DONE;
    pool_free(store->pool);
    store->pool = NULL;
    return cold(report, "has a damaged index");
}

struct takeover *takeover_begin(struct store *store, int file) {
    struct takeover_report *report = &store->taken;
    if (file <= 0)
        return NULL;
    struct takeover *takeover = calloc(1, sizeof *takeover);
    if (!takeover)
        return NULL;
    takeover->store = store;
    takeover->begun_ns = clock_now_ns();
    report->outcome = look_at(file, &takeover->note, report);
    if (report->outcome == TAKEOVER_DONE)
        report->outcome = begin(takeover, file, report);
    if (report->outcome == TAKEOVER_DONE)
        return takeover;
    if (report->outcome != TAKEOVER_NONE)
        log_warning("starting cold: the pool that the service manager kept %s", report->why);
    takeover->done = true;
    takeover_free(takeover);
    return NULL;
}
