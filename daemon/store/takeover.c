#include "daemon/store/takeover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/restore.h"

/* --- whether it is taken over --- */

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

static void put_note(struct takeover *takeover) {
    takeover_write_note(pool_note(takeover->store->pool), &takeover->note);
}

/* The index, where its checksum is right, or NULL. */
static const uint8_t *find_index(const struct takeover *takeover) {
    const struct takeover_note *note = &takeover->note;
    const struct pool_extent *extent = &note->index;
    const struct pool *pool = takeover->store->pool;
    if (note->pool_bytes != pool_bytes(pool) || extent->offset > pool_bytes(pool) ||
        extent->bytes > pool_bytes(pool) - extent->offset)
        return NULL;
    const uint8_t *index = pool_memory(pool, extent);
    return record_hash(index, extent->bytes) == note->index_hash ? index : NULL;
}

static const uint8_t *chunk_entry(const struct takeover *takeover, size_t i) {
    return takeover->index + TAKEOVER_HEAD_BYTES + i * TAKEOVER_CHUNK_BYTES;
}

static const uint8_t *attachment_entry(const struct takeover *takeover, size_t i) {
    return takeover->attachment_entries + i * TAKEOVER_ATTACHMENT_BYTES;
}

static const uint8_t *tail_entry(const struct takeover *takeover, size_t i) {
    return takeover->tail_entries + i * TAKEOVER_TAIL_BYTES;
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

/* The entry of that id among these; SIZE_MAX: none. */
static size_t find_entry(const uint8_t *entries, size_t count, size_t entry_bytes, uint64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_get(entries + middle * entry_bytes, 8) < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && bytes_get(entries + low * entry_bytes, 8) == id ? low : SIZE_MAX;
}

/* How many extents are in use. */
static size_t collect_extents(const struct takeover *takeover, struct pool_extent *extents) {
    size_t count = 0;
    for (size_t i = 0; i < takeover->head.chunks; i++) {
        extents[count] = takeover_read_chunk(chunk_entry(takeover, i)).extent;
        count += extents[count].bytes > 0;
    }
    for (size_t i = 0; i < takeover->head.attachments; i++) {
        extents[count] = takeover_read_attachment(attachment_entry(takeover, i)).extent;
        count += extents[count].bytes > 0;
    }
    for (size_t i = 0; i < takeover->head.tails; i++)
        extents[count++] = takeover_read_tail(tail_entry(takeover, i)).extent;
    extents[count++] = takeover->note.index;
    return count;
}

static bool adopt_extents(const struct takeover *takeover) {
    const struct takeover_head *head = &takeover->head;
    size_t most = (size_t)head->chunks + head->attachments + head->tails + 1;
    struct pool_extent *extents = calloc(most, sizeof *extents);
    size_t count = extents ? collect_extents(takeover, extents) : 0;
    bool adopted =
        are_ascending(chunk_entry(takeover, 0), head->chunks, TAKEOVER_CHUNK_BYTES) &&
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
    takeover->attachment_entries = chunk_entry(takeover, head->chunks);
    takeover->tail_entries = attachment_entry(takeover, head->attachments);
    takeover->session_entries = tail_entry(takeover, head->tails);
    takeover->chunks = calloc((size_t)head->chunks + 1, sizeof *takeover->chunks);
    takeover->attachments = calloc((size_t)head->attachments + 1, sizeof *takeover->attachments);
    takeover->tails = calloc((size_t)head->tails + 1, sizeof *takeover->tails);
    size_t most = (head->bytes / TAKEOVER_SESSION_BYTES) + 1;
    takeover->sessions = calloc(most, sizeof(struct session *));
    return takeover->chunks && takeover->attachments && takeover->tails && takeover->sessions &&
           adopt_extents(takeover);
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
    put_note(takeover);
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

/* --- chunks and tails --- */

/* Where it is on disk, too, that is looked at again once the disk has been read. */
static struct chunk *make_chunk(struct takeover *takeover, size_t i) {
    struct store *store = takeover->store;
    const uint8_t *entry = chunk_entry(takeover, i);
    struct takeover_chunk said = takeover_read_chunk(entry);
    bool on_disk = said.disk_bytes > 0 && disk_tier_is_on(&store->disk);
    if (said.extent.bytes == 0 && !(on_disk && said.disk_is_current))
        return NULL;
    struct record *record = takeover_read_record(entry, store->pool, &store->budget);
    if (!record)
        return NULL;
    takeover->chunks[i].has_record = true;
    struct chunk *chunk = chunk_new(&store->budget, &store->usage);
    if (!chunk) {
        record_unpin(record);
        return NULL;
    }
    chunk->id = said.id;
    chunk_complete(chunk, record);
    if (on_disk)
        chunk->on_disk = (struct chunk_on_disk){
            &store->disk, said.disk_is_current ? record->serial : pool_next_serial(store->pool),
            said.disk_bytes};
    return chunk;
}

/* Whether its bytes are a record of this model's, and of no more tokens than a page has. What is on
 * disk only is checked when it is loaded. */
static bool is_of(const struct chunk *chunk, const struct session *session) {
    const struct record *record = chunk->record;
    struct record_spec spec;
    if (chunk->tokens > session->page_tokens)
        return false;
    if (record_is_absent(record))
        return true;
    if (record_check_header(record, &session->geometry) < 0)
        return false;
    record_read_spec(record, &spec);
    return spec.model_bytes == session->model_bytes &&
           memcmp(spec.model, session->model, spec.model_bytes) == 0;
}

static struct chunk *chunk_of(struct takeover *takeover, const struct session *session,
                              uint64_t id) {
    size_t i =
        find_entry(chunk_entry(takeover, 0), takeover->head.chunks, TAKEOVER_CHUNK_BYTES, id);
    if (i == SIZE_MAX)
        return NULL;
    struct taken_chunk *taken = &takeover->chunks[i];
    if (!taken->tried)
        taken->chunk = make_chunk(takeover, i);
    taken->tried = true;
    return taken->chunk && is_of(taken->chunk, session) ? taken->chunk : NULL;
}

/* With as many rows as the longest of the sessions that share it has. */
static struct tail *read_tail(struct takeover *takeover, const struct session *session,
                              const struct takeover_tail *said) {
    struct store *store = takeover->store;
    struct tail *tail;
    uint64_t bytes = said->rows * geometry_token_bytes(&session->geometry);
    if (said->rows >= session->page_tokens || bytes > said->extent.bytes ||
        tail_new(&store->budget, &store->usage, &session->geometry, said->rows, &tail) != STORE_OK)
        return NULL;
    if (tail_extend(tail, said->rows) == STORE_OK &&
        pool_read(store->pool, &said->extent, tail->rows, bytes) == 0 &&
        record_hash(tail->rows, bytes) == said->hash)
        return tail;
    tail_unref(tail);
    return NULL;
}

/* The tail of this number, if its rows can be the session's. */
static struct tail *tail_of(struct takeover *takeover, const struct session *session,
                            const struct manifest *manifest) {
    struct tail_piece piece = manifest_piece(manifest, 0);
    if (piece.id == 0 || piece.id > takeover->head.tails || manifest->piece_count != 1)
        return NULL;
    struct takeover_tail said = takeover_read_tail(tail_entry(takeover, piece.id - 1));
    struct taken_tail *taken = &takeover->tails[piece.id - 1];
    if (!taken->tried) {
        taken->tail = read_tail(takeover, session, &said);
        if (taken->tail)
            restore_losses(taken->tail, manifest);
    }
    taken->tried = true;
    return taken->tail && piece.rows <= said.rows &&
                   geometry_equal(&taken->tail->geometry, &session->geometry)
               ? taken->tail
               : NULL;
}

/* --- attachments --- */

/* With its bytes in memory, if there they are. */
static struct attachment *make_attachment(struct takeover *takeover, size_t i,
                                          const struct attachment_spec *spec) {
    struct store *store = takeover->store;
    struct attachment_home home = {store->pool, &store->budget, &store->usage};
    struct takeover_attachment said = takeover_read_attachment(attachment_entry(takeover, i));
    bool is_on_disk = said.is_on_disk && disk_tier_is_on(&store->disk);
    bool fits = said.extent.bytes > 0 ? spec->record_bytes <= said.extent.bytes : is_on_disk;
    struct attachment *attachment = fits ? attachment_new(&home, spec) : NULL;
    if (!attachment)
        return NULL;
    if (said.extent.bytes > 0 && budget_reserve(&store->budget, said.extent.bytes)) {
        takeover->attachments[i].has_extent = true;
        (void)attachment_end_load(attachment, &said.extent, ATTACHMENT_READ);
    }
    if (attachment->extent.bytes == 0 && !is_on_disk) {
        attachment_unref(attachment);
        return NULL;
    }
    attachment->lost_until_ns = 0;
    attachment->disk = is_on_disk ? &store->disk : NULL;
    return attachment;
}

static bool is_like(const struct attachment *attachment, const struct attachment_spec *spec) {
    return attachment->spec.bytes == spec->bytes &&
           attachment->spec.record_bytes == spec->record_bytes &&
           attachment->spec.name_bytes == spec->name_bytes &&
           memcmp(attachment->name, spec->name, spec->name_bytes) == 0;
}

/* The one of that number, which several sessions may have. */
static struct attachment *attachment_of(struct takeover *takeover,
                                        const struct attachment_spec *spec) {
    size_t i = find_entry(takeover->attachment_entries, takeover->head.attachments,
                          TAKEOVER_ATTACHMENT_BYTES, spec->id);
    if (i == SIZE_MAX)
        return NULL;
    struct taken_attachment *taken = &takeover->attachments[i];
    if (!taken->tried)
        taken->attachment = make_attachment(takeover, i, spec);
    taken->tried = true;
    return taken->attachment && is_like(taken->attachment, spec) ? taken->attachment : NULL;
}

/* False if one of them cannot be had. */
static bool add_attachments(struct takeover *takeover, struct session *session,
                            const struct manifest *manifest) {
    struct attachment_spec spec;
    bool all = true;
    if (manifest->attachments_bytes > 0 && attachment_set_provide(session) != STORE_OK)
        return false;
    for (size_t at = 0; manifest_next_attachment(manifest, &at, &spec);) {
        struct attachment *replaced = NULL, *attachment = attachment_of(takeover, &spec);
        if (!attachment || attachment_set_put(session, attachment, &replaced) != STORE_OK)
            all = false;
        if (replaced)
            attachment_disown(replaced); /* no manifest of ours has a name twice */
    }
    return all;
}

/* --- sessions --- */

static bool add_tail(struct takeover *takeover, struct session *session,
                     const struct manifest *manifest) {
    if (manifest->tail_is_coded) {
        struct manifest_slice slice = manifest_slice(manifest, manifest->slice_count - 1);
        return restore_coded_tail(session, manifest, chunk_of(takeover, session, slice.chunk_id));
    }
    if (manifest->tail_tokens == 0)
        return true;
    struct tail *tail = tail_of(takeover, session, manifest);
    if (!tail)
        return false;
    tail_own(tail);
    session->tail = tail;
    session->tail_tokens = manifest->tail_tokens;
    session->tokens += manifest->tail_tokens;
    return true;
}

static bool add_all(struct takeover *takeover, struct session *session,
                    const struct manifest *manifest) {
    for (uint32_t i = 0; i < manifest->slice_count - manifest->tail_is_coded; i++) {
        struct manifest_slice slice = manifest_slice(manifest, i);
        if (!restore_slice(session, &slice, chunk_of(takeover, session, slice.chunk_id)))
            return false;
    }
    return add_tail(takeover, session, manifest);
}

static void set_saved(struct takeover *takeover, struct session *session,
                      const struct takeover_session *said, const uint8_t *pieces) {
    struct session_saved *saved = &session->saved;
    *saved = (struct session_saved){.any = said->saved.any != 0,
                                    .point = {said->saved.version, said->saved.changes},
                                    .tokens = said->saved.tokens,
                                    .cuts = said->saved.cuts,
                                    .removed_attachments = said->saved.removed_attachments,
                                    .used_ns = said->saved.used_ns,
                                    .tail_first = said->saved.tail_first};
    if (said->saved.coded_tail != 0)
        saved->coded_tail = chunk_of(takeover, session, said->saved.coded_tail);
    if (saved->coded_tail)
        chunk_ref(saved->coded_tail);
    else if (said->saved.coded_tail != 0)
        saved->point.version = 0;
    saved->pieces = calloc((size_t)said->pieces + 1, sizeof *saved->pieces);
    for (uint32_t i = 0; saved->pieces && i < said->pieces; i++, pieces += TAKEOVER_PIECE_BYTES)
        saved->pieces[saved->piece_count++] = (struct tail_piece){
            .id = bytes_get(pieces, 8), .rows = (uint32_t)bytes_get(pieces + 8, 4)};
}

static void set_fields(struct takeover *takeover, struct session *session,
                       const struct takeover_session *said, const uint8_t *pieces) {
    uint64_t now_ns = clock_now_ns();
    session->first_position = said->first_position;
    session->changes = said->changes;
    session->cuts.count = said->cuts;
    session->removed_attachments = said->removed_attachments;
    session->created_ns = said->created_ns < now_ns ? said->created_ns : now_ns;
    session->used_ns = said->used_ns < now_ns ? said->used_ns : now_ns;
    session->pinned_until_ns = said->pinned_until_ns;
    for (uint32_t i = 0; i < said->touches && i < COLDNESS_TOUCHES_MAX; i++)
        coldness_touch(session);
    if (disk_tier_is_on(&takeover->store->disk))
        set_saved(takeover, session, said, pieces);
    else
        session->durability = SESSION_IN_MEMORY;
}

/* What is missing at the end makes it another session: of a new version, and to be saved anew. */
static void note_missing(struct takeover *takeover, struct session *session, uint64_t tokens) {
    session->lost_tokens += tokens - session->tokens;
    session->version = store_next_version(takeover->store);
    session->saved.cuts = UINT64_MAX;
    takeover->store->taken.cut_sessions++;
}

/* Of a chain: those whose tokens are there. */
static void add_blocks(struct store *store, struct session *session,
                       const struct manifest *manifest) {
    struct block_entry block;
    size_t at = 0;
    while (session_is_chain(session) && manifest_next_block(manifest, &at, &block) &&
           block.first + block.tokens <= session->tokens) {
        struct block_key key = {.model = session->model,
                                .model_bytes = session->model_bytes,
                                .text = block.key,
                                .text_bytes = block.key_bytes,
                                .geometry = &session->geometry};
        struct block_place place = {session, block.first, block.tokens};
        if (block_claim(&store->blocks, &key, &place) == STORE_OK)
            block_publish(&store->blocks, &key, session);
    }
}

/* NULL if nothing of it can be had. */
static struct session *make_session(struct takeover *takeover, const uint8_t *entry) {
    struct takeover_session said = takeover_read_session(entry);
    const uint8_t *bytes = entry + TAKEOVER_SESSION_BYTES;
    struct manifest manifest;
    if (manifest_read(&manifest, bytes, said.manifest_bytes) < 0)
        return NULL;
    struct session *session = restore_session(takeover->store, &manifest);
    if (!session)
        return NULL;
    set_fields(takeover, session, &said, bytes + said.manifest_bytes);
    bool whole = add_attachments(takeover, session, &manifest);
    if (!add_all(takeover, session, &manifest) || !whole)
        note_missing(takeover, session, manifest.tokens);
    restore_ids(takeover->store, session, &manifest);
    add_blocks(takeover->store, session, &manifest);
    if (session->tokens > 0 || manifest.tokens == 0)
        return session;
    session_unref(session);
    return NULL;
}

/* Whether an entry lies within what is left, with all that belongs to it. */
static bool fits(const uint8_t *entry, uint64_t left) {
    if (left < TAKEOVER_SESSION_BYTES)
        return false;
    struct takeover_session said = takeover_read_session(entry);
    return said.bytes <= left && TAKEOVER_SESSION_BYTES + (uint64_t)said.manifest_bytes +
                                         (uint64_t)said.pieces * TAKEOVER_PIECE_BYTES <=
                                     said.bytes;
}

static void make_sessions(struct takeover *takeover) {
    const uint8_t *entry = takeover->session_entries;
    const uint8_t *end = takeover->index + takeover->head.bytes;
    uint64_t before = 0;
    for (uint32_t i = 0; i < takeover->head.sessions && fits(entry, (uint64_t)(end - entry)); i++) {
        struct session *session = make_session(takeover, entry);
        if (session && session->id > before) {
            before = session->id;
            takeover->sessions[takeover->session_count++] = session;
        } else if (session) {
            session_unref(session);
        } else {
            takeover->store->taken.cut_sessions++;
        }
        entry += takeover_read_session(entry).bytes;
    }
}

/* --- from beginning to end --- */

static void insert_sessions(struct takeover *takeover) {
    struct store *store = takeover->store;
    size_t kept = 0;
    for (size_t i = 0; i < takeover->session_count; i++) {
        struct session *session = takeover->sessions[i];
        uint64_t tokens = session->tokens;
        session_ref(session);
        restore_clock(&store->version_clock, session->version);
        if (store_insert(store, session, NULL) != STORE_OK) {
            session_unref(session);
            session_unref(session);
            continue;
        }
        takeover->sessions[kept++] = session;
        store->taken.sessions++;
        store->taken.tokens += tokens;
    }
    takeover->session_count = kept;
}

static void raise_clocks(struct takeover *takeover) {
    struct store *store = takeover->store;
    restore_clock(&store->version_clock, takeover->head.version_clock);
    restore_clock(&store->usage.chunk_id_clock, takeover->head.chunk_id_clock);
    list_raise_ids(&store->list, takeover->head.session_ids);
    list_raise_ids(&store->chains, takeover->head.chain_ids);
}

static void give_back(struct store *store, struct pool_extent extent) {
    pool_give(store->pool, &extent, 0, &store->budget, 0);
}

/* What no session has, tails, and the index. */
static void give_back_rest(struct takeover *takeover) {
    struct store *store = takeover->store;
    for (size_t i = 0; i < takeover->head.chunks; i++) {
        struct takeover_chunk chunk = takeover_read_chunk(chunk_entry(takeover, i));
        if (!takeover->chunks[i].has_record && chunk.extent.bytes > 0)
            give_back(store, chunk.extent);
    }
    for (size_t i = 0; i < takeover->head.attachments; i++) {
        struct takeover_attachment said = takeover_read_attachment(attachment_entry(takeover, i));
        if (!takeover->attachments[i].has_extent && said.extent.bytes > 0)
            give_back(store, said.extent);
    }
    for (size_t i = 0; i < takeover->head.tails; i++)
        give_back(store, takeover_read_tail(tail_entry(takeover, i)).extent);
    takeover->index = NULL;
    give_back(store, takeover->note.index);
}

static void say(const struct takeover *takeover) {
    const struct takeover_report *report = &takeover->store->taken;
    log_info("took over %llu sessions of %llu tokens, in %llu MiB, from the daemon before, in %llu "
             "ms",
             (unsigned long long)report->sessions, (unsigned long long)report->tokens,
             (unsigned long long)report->bytes >> 20,
             (unsigned long long)report->took_ns / CLOCK_NS_PER_MS);
    if (report->cut_sessions > 0)
        log_warning("%llu sessions were shortened or are gone: not all of them could be taken over",
                    (unsigned long long)report->cut_sessions);
}

/* From where sessions are in the store on, what is in the pool changes: then nobody may take it
 * over as the index has it. */
void takeover_run(struct takeover *takeover) {
    struct store *store = takeover->store;
    raise_clocks(takeover);
    make_sessions(takeover);
    takeover->note.state = TAKEOVER_IN_USE;
    takeover->note.attempts = 0;
    put_note(takeover);
    insert_sessions(takeover);
    give_back_rest(takeover);
    takeover->done = true;
    store->taken.bytes = atomic_load(&store->usage.pages_bytes);
    store->taken.took_ns = clock_now_ns() - takeover->begun_ns;
    say(takeover);
}

static int compare_id(const void *key, const void *member) {
    uint64_t id = *(const uint64_t *)key, other = (*(struct session *const *)member)->id;
    return (id > other) - (id < other);
}

bool takeover_has(const struct takeover *takeover, uint64_t session_id) {
    return takeover->session_count > 0 &&
           bsearch(&session_id, takeover->sessions, takeover->session_count,
                   sizeof(struct session *), compare_id) != NULL;
}

void takeover_free(struct takeover *takeover) {
    if (!takeover)
        return;
    if (!takeover->done) {
        takeover->note.attempts--;
        put_note(takeover);
    }
    for (size_t i = 0; takeover->chunks && i < takeover->head.chunks; i++)
        if (takeover->chunks[i].chunk)
            chunk_unref(takeover->chunks[i].chunk);
    for (size_t i = 0; takeover->attachments && i < takeover->head.attachments; i++)
        if (takeover->attachments[i].attachment)
            attachment_unref(takeover->attachments[i].attachment);
    for (size_t i = 0; takeover->tails && i < takeover->head.tails; i++)
        if (takeover->tails[i].tail)
            tail_unref(takeover->tails[i].tail);
    for (size_t i = 0; i < takeover->session_count; i++)
        session_unref(takeover->sessions[i]);
    free(takeover->chunks);
    free(takeover->attachments);
    free(takeover->tails);
    free(takeover->sessions);
    free(takeover);
}
