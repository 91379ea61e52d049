#include "daemon/store/attachments.h"

#include <stdlib.h>

#include "daemon/store/attachment_disk.h"

/* With the session locked. */
static int check(const struct session *session, uint64_t if_version) {
    if (session->deleted)
        return STORE_MISS;
    return if_version != 0 && if_version != session->version ? STORE_VERSION_CHANGED : STORE_OK;
}

/* --- put --- */

struct attachment_put {
    struct store *store;
    struct session *session;       /* owned reference */
    struct attachment *attachment; /* owned reference */
    uint64_t if_version;
    uint32_t next_piece;
};

static bool has_room_for(const struct session *session, struct store_name name) {
    return attachment_set_count(session->attachments) < ATTACHMENTS_MAX ||
           attachment_set_find(session->attachments, name.text, name.bytes);
}

/* With the session locked. */
static int check_put(const struct session *session, const struct attachment_key *key) {
    int status = check(session, key->if_version);
    if (status == STORE_OK && !has_room_for(session, key->name))
        status = STORE_UNSUPPORTED;
    return status;
}

int attachment_put_begin(struct store *store, const struct attachment_key *key, uint64_t bytes,
                         struct attachment_put **begun) {
    struct session *session = store_find(store, key->session);
    if (!session)
        return STORE_MISS;
    struct attachment_home home = {store->pool, session->budget, session->usage};
    struct attachment_spec spec = {.id = usage_next_id(&store->usage, 1),
                                   .bytes = bytes,
                                   .name = key->name.text,
                                   .name_bytes = key->name.bytes};
    pthread_mutex_lock(session->lock);
    int status = check_put(session, key);
    pthread_mutex_unlock(session->lock);
    struct attachment_put *put = status == STORE_OK ? calloc(1, sizeof *put) : NULL;
    struct attachment *attachment = put ? attachment_new(&home, &spec) : NULL;
    if (!attachment) {
        free(put);
        session_unref(session);
        return status == STORE_OK ? STORE_FULL : status;
    }
    *put = (struct attachment_put){.store = store,
                                   .session = session,
                                   .attachment = attachment,
                                   .if_version = key->if_version};
    *begun = put;
    return STORE_OK;
}

static int provide(struct attachment *attachment) {
    return attachment->extent.bytes > 0 ? STORE_OK : attachment_provide(attachment);
}

int attachment_put_piece(struct attachment_put *put, uint64_t offset, const void *bytes,
                         size_t count, void *workspace) {
    struct attachment *attachment = put->attachment;
    if (put->next_piece == attachment_pieces(attachment) ||
        offset != (uint64_t)put->next_piece * ATTACHMENT_PIECE_BYTES ||
        count != attachment_piece_bytes(attachment, put->next_piece))
        return STORE_INVALID;
    int status = provide(attachment);
    if (status == STORE_OK)
        attachment_write_piece(attachment, put->next_piece++, bytes, workspace);
    return status;
}

/* All that can be wanting before the record is sealed. */
static int prepare(struct attachment_put *put) {
    struct session *session = put->session;
    int status = provide(put->attachment);
    if (status != STORE_OK)
        return status;
    pthread_mutex_lock(session->lock);
    status = check(session, put->if_version);
    if (status == STORE_OK)
        status = attachment_set_provide(session);
    put->attachment->spec.tokens = session->tokens;
    pthread_mutex_unlock(session->lock);
    return status;
}

/* With the session locked: it has one more, or one less. */
static void note_change(struct store *store, struct session *session,
                        struct attachment_result *result) {
    session_use(session, false);
    session->version = store_next_version(store);
    result->point = session_point(session);
}

/* With the session locked. */
static int enter(struct attachment_put *put, struct attachment **replaced,
                 struct attachment_result *result) {
    struct session *session = put->session;
    int status = check(session, put->if_version);
    if (status == STORE_OK)
        status = attachment_set_put(session, put->attachment, replaced);
    if (status != STORE_OK)
        return status;
    note_change(put->store, session, result);
    return STORE_OK;
}

int attachment_put_commit(struct attachment_put *put, struct attachment_result *result) {
    struct attachment *replaced = NULL;
    if (put->next_piece < attachment_pieces(put->attachment))
        return STORE_INCOMPLETE;
    int status = prepare(put);
    if (status != STORE_OK)
        return status;
    attachment_seal(put->attachment);
    pthread_mutex_lock(put->session->lock);
    status = enter(put, &replaced, result);
    pthread_mutex_unlock(put->session->lock);
    result->bytes = attachment_view(put->attachment).memory_bytes;
    if (replaced)
        attachment_disown(replaced);
    return status;
}

struct session *attachment_put_session(const struct attachment_put *put) {
    return put->session;
}

void attachment_put_end(struct attachment_put *put) {
    attachment_unref(put->attachment);
    session_unref(put->session);
    free(put);
}

/* --- get --- */

int attachment_get_begin(struct store *store, const struct attachment_key *key,
                         struct attachment_get *get) {
    *get = (struct attachment_get){.session = store_find(store, key->session)};
    struct session *session = get->session;
    if (!session)
        return STORE_MISS;
    pthread_mutex_lock(session->lock);
    int status = check(session, key->if_version);
    if (status == STORE_OK)
        get->attachment =
            attachment_set_find(session->attachments, key->name.text, key->name.bytes);
    if (get->attachment) {
        attachment_ref(get->attachment);
        session_use(session, true);
        get->version = session->version;
    } else if (status == STORE_OK) {
        status = STORE_MISS;
    }
    pthread_mutex_unlock(session->lock);
    return status;
}

/* Whether the session has it still. */
static bool is_there(const struct attachment_get *get) {
    const struct attachment_spec *spec = &get->attachment->spec;
    pthread_mutex_lock(get->session->lock);
    bool is_there = attachment_set_find(get->session->attachments, spec->name, spec->name_bytes) ==
                    get->attachment;
    pthread_mutex_unlock(get->session->lock);
    return is_there;
}

int attachment_get_next(struct store *store, struct attachment_get *get, void *to, size_t *bytes,
                        void *workspace) {
    struct attachment *attachment = get->attachment;
    *bytes = 0;
    if (!is_there(get))
        return STORE_MISS;
    if (get->next_piece == attachment_pieces(attachment))
        return STORE_OK;
    if (!attachment_pin(attachment)) {
        int status = attachment_load(attachment);
        return status == STORE_OK ? STORE_MORE : status;
    }
    *bytes = attachment_piece_bytes(attachment, get->next_piece);
    int damaged = attachment_read_piece(attachment, get->next_piece++, to, workspace);
    attachment_unpin(attachment);
    atomic_fetch_add(&store->usage.attachments_damaged, damaged < 0);
    return damaged < 0 ? STORE_MISS : STORE_MORE;
}

void attachment_get_end(struct attachment_get *get) {
    if (get->attachment)
        attachment_unref(get->attachment);
    if (get->session)
        session_unref(get->session);
}

/* --- delete --- */

int attachment_delete(struct store *store, struct session *session,
                      const struct attachment_key *key, struct attachment_result *result) {
    struct attachment *attachment = NULL;
    pthread_mutex_lock(session->lock);
    int status = check(session, key->if_version);
    if (status == STORE_OK)
        attachment = attachment_set_find(session->attachments, key->name.text, key->name.bytes);
    if (attachment) {
        attachment_set_take(session, attachment);
        note_change(store, session, result);
    } else if (status == STORE_OK) {
        status = STORE_MISS;
    }
    pthread_mutex_unlock(session->lock);
    if (attachment)
        result->bytes = attachment_disown(attachment);
    return status;
}
