#include "daemon/store/recovery_state.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/array.h"
#include "daemon/store/record_disk.h"
#include "daemon/store/restore.h"

static uint64_t owner_of(const char *tenant, size_t tenant_bytes, const char *model,
                         size_t model_bytes) {
    return XXH3_64bits_withSeed(model, model_bytes, XXH3_64bits(tenant, tenant_bytes));
}

void recovery_on_found(void *context, const struct disk_found *found) {
    struct recovery *recovery = context;
    const struct disk_metadata *metadata = found->metadata;
    struct found *grown =
        array_grow(recovery->found, recovery->count, &recovery->capacity, sizeof *grown);
    recovery->is_incomplete |= !grown;
    if (!grown)
        return;
    recovery->found = grown;
    recovery->found[recovery->count++] =
        (struct found){.id = found->key.id,
                       .kind = found->key.kind,
                       .bytes = found->bytes,
                       .owner = owner_of(metadata->tenant, metadata->tenant_bytes, metadata->model,
                                         metadata->model_bytes),
                       .name_hash = disk_tier_hash_name(metadata),
                       .doubtful = found->doubtful};
}

static int compare(const void *a, const void *b) {
    const struct found *left = a, *right = b;
    if (left->kind != right->kind)
        return (left->kind > right->kind) - (left->kind < right->kind);
    return (left->id > right->id) - (left->id < right->id);
}

struct found *recovery_find(struct recovery *recovery, const struct session *session,
                            enum disk_kind kind, uint64_t id) {
    struct found key = {.id = id, .kind = (uint8_t)kind};
    struct found *found = NULL;
    if (recovery->count > 0)
        found = bsearch(&key, recovery->found, recovery->count, sizeof key, compare);
    uint64_t owner = owner_of(session->tenant->name, session->tenant->name_bytes, session->model,
                              session->model_bytes);
    recovery->for_now |= !found && recovery->is_incomplete;
    return found && found->owner == owner ? found : NULL;
}

/* The job says where to, and which parts. */
static void read_parts(struct recovery *recovery, const struct found *found, struct disk_job *job) {
    job->operation = DISK_READ;
    job->key = (struct disk_key){.id = found->id, .kind = found->kind};
    disk_tier_do(&recovery->store->disk, job);
}

int recovery_read(struct recovery *recovery, const struct found *found, uint32_t parts,
                  void *memory, size_t capacity, size_t *bytes) {
    struct disk_job job = {.read_parts = parts, .memory = memory, .capacity = capacity};
    read_parts(recovery, found, &job);
    *bytes = job.bytes;
    recovery->for_now |= job.status == DISK_FAILED;
    return job.status == DISK_OK ? 0 : -1;
}

/* --- what sessions are made of --- */

/* Those of its keys, if there are: without room or damaged they are left where they are. */
static void read_keys(struct recovery *recovery, const struct found *found,
                      const struct geometry *geometry, struct chunk *chunk) {
    uint64_t bytes = chunk->on_disk.summary_bytes;
    struct key_summary keys;
    if (bytes == 0 ||
        key_summary_init(&keys, recovery->store->pool, chunk->budget, bytes) != STORE_OK)
        return;
    struct disk_job job = {.first_part = 1,
                           .read_parts = 1,
                           .memory = key_summary_memory(&keys),
                           .capacity = (size_t)bytes};
    read_parts(recovery, found, &job);
    if (job.status == DISK_OK && job.bytes == bytes &&
        key_summary_is_whole(&keys, geometry, chunk->tokens))
        chunk->summary = keys;
    else
        key_summary_deinit(&keys);
}

static struct chunk *make_chunk(struct recovery *recovery, const struct found *found,
                                const struct session *session) {
    struct store *store = recovery->store;
    uint8_t summary[RECORD_SUMMARY_BYTES];
    size_t bytes;
    if (recovery_read(recovery, found, 1, summary, sizeof summary, &bytes) < 0 ||
        bytes != sizeof summary)
        return NULL;
    struct record *record = record_read_summary(store->pool, session->budget, summary);
    recovery->for_now |= !record;
    if (!record || record->bytes + sizeof summary > found->bytes) {
        free(record);
        return NULL;
    }
    struct chunk *chunk = chunk_new(session->budget, session->usage, &session->geometry);
    recovery->for_now |= !chunk;
    if (!chunk) {
        record_unpin(record);
        return NULL;
    }
    chunk->id = found->id;
    chunk_complete(chunk, record);
    uint64_t keys_bytes = found->bytes - sizeof summary - record->bytes;
    chunk_put_on_disk(chunk, (struct chunk_on_disk){&store->disk, record->serial, record->bytes,
                                                    keys_bytes, record->level});
    read_keys(recovery, found, &session->geometry, chunk);
    return chunk;
}

struct chunk *recovery_chunk_of(struct recovery *recovery, const struct session *session,
                                uint64_t id) {
    struct found *found = recovery_find(recovery, session, DISK_CHUNK, id);
    if (!found)
        return NULL;
    if (!found->used)
        found->chunk = make_chunk(recovery, found, session);
    found->used = !recovery->for_now;
    return found->chunk;
}

struct attachment *recovery_attachment_of(struct recovery *recovery, const struct session *session,
                                          struct found *found, const struct attachment_spec *spec) {
    struct store *store = recovery->store;
    struct attachment_home home = {store->pool, session->budget, session->usage};
    if (!found->attachment)
        found->attachment = attachment_new(&home, spec);
    if (found->attachment)
        attachment_put_on_disk(found->attachment, &store->disk);
    return found->attachment;
}

/* Of its own parts, the first of them the header. */
static bool load(struct recovery *recovery, const struct found *found,
                 struct attachment *attachment) {
    struct pool_extent room;
    size_t bytes;
    int status = attachment_begin_load(attachment, &room);
    recovery->for_now |= status == STORE_FULL;
    if (status != STORE_MORE)
        return status == STORE_OK;
    bool is_read =
        recovery_read(recovery, found, DISK_PARTS_MAX, pool_memory(recovery->store->pool, &room),
                      (size_t)attachment->spec.record_bytes, &bytes) == 0 &&
        bytes == attachment->spec.record_bytes;
    return attachment_end_load(attachment, &room,
                               is_read             ? ATTACHMENT_READ
                               : recovery->for_now ? ATTACHMENT_DEVICE_FAILED
                                                   : ATTACHMENT_NOT_READ);
}

struct attachment *recovery_batch_of(struct recovery *recovery, const struct session *session,
                                     const struct attachment_spec *spec) {
    struct found *found = recovery_find(recovery, session, DISK_ATTACHMENT, spec->id);
    if (recovery->for_now || !found || found->bytes != spec->record_bytes)
        return NULL;
    struct attachment *attachment = recovery_attachment_of(recovery, session, found, spec);
    recovery->for_now |= !attachment;
    return attachment && attachment->spec.is_batch && load(recovery, found, attachment) ? attachment
                                                                                        : NULL;
}

static void raise_clocks(struct recovery *recovery) {
    struct store *store = recovery->store;
    for (size_t i = 0; i < recovery->count; i++) {
        const struct found *found = &recovery->found[i];
        recovery->bytes += found->bytes;
        if (found->kind == DISK_SESSION && found->id > STORE_CHAIN_IDS)
            list_raise_ids(&store->chains, found->id);
        else if (found->kind == DISK_SESSION)
            list_raise_ids(&store->list, found->id);
        else
            restore_clock(&store->usage.chunk_id_clock, found->id);
    }
}

void recovery_order_found(struct recovery *recovery) {
    if (recovery->count > 0)
        qsort(recovery->found, recovery->count, sizeof *recovery->found, compare);
    raise_clocks(recovery);
}

/* Whether a session that was not taken may have it. */
static bool may_be_wanted(const struct recovery *recovery) {
    return recovery->left_out_count > 0 || recovery->is_incomplete;
}

static void drop_attachment(const struct recovery *recovery, struct attachment *attachment) {
    if (may_be_wanted(recovery) && attachment->owners == 0)
        attachment_leave_on_disk(attachment);
    attachment_unref(attachment);
}

static void drop_chunk(const struct recovery *recovery, struct chunk *chunk) {
    if (may_be_wanted(recovery) && chunk->owner_count == 0)
        chunk_leave_on_disk(chunk);
    chunk_unref(chunk);
}

void recovery_forget_rest(struct recovery *recovery) {
    for (size_t i = 0; i < recovery->count; i++) {
        struct found *found = &recovery->found[i];
        if (found->chunk)
            drop_chunk(recovery, found->chunk);
        else if (found->attachment)
            drop_attachment(recovery, found->attachment);
        else if (may_be_wanted(recovery))
            continue;
        else if (found->kind == DISK_CHUNK || found->kind == DISK_ATTACHMENT ||
                 (found->kind == DISK_TAIL && !found->used))
            disk_tier_forget(&recovery->store->disk, (enum disk_kind)found->kind, found->id);
    }
}
