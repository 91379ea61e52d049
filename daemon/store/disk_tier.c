#include "daemon/store/disk_tier.h"

#include <stdlib.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/error.h"
#include "daemon/store/keeper.h"
#include "daemon/store/record_disk.h"
#include "daemon/store/store.h"

struct disk_promise {
    struct disk_job job;
    struct disk_tier *tier;
    uint64_t name_hash;
    struct disk_promise *next;   /* the tier's, under its lock, until it is kept */
    _Atomic unsigned references; /* the tier's and the caller's */
    _Atomic int status;
};

void disk_tier_init(struct disk_tier *tier, struct keeper *keeper,
                    void (*on_progress)(void *context), void *context) {
    pthread_condattr_t attributes;
    *tier = (struct disk_tier){.keeper = keeper, .on_progress = on_progress, .context = context};
    pthread_mutex_init(&tier->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&tier->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void disk_tier_deinit(struct disk_tier *tier) {
    pthread_cond_destroy(&tier->changed);
    pthread_mutex_destroy(&tier->lock);
    for (int i = 0; i < DISK_TIER_DELETES; i++)
        for (struct disk_promise *promise = tier->deletes[i], *next; promise; promise = next) {
            next = promise->next;
            disk_promise_release(promise);
        }
    free(tier->left_out);
}

uint64_t disk_tier_hash_name(const struct disk_metadata *of) {
    return XXH3_64bits_withSeed(of->session, of->session_bytes,
                                XXH3_64bits(of->tenant, of->tenant_bytes));
}

static int compare_hashes(const void *a, const void *b) {
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

void disk_tier_leave_out(struct disk_tier *tier, uint64_t *name_hashes, size_t count) {
    if (count > 0)
        qsort(name_hashes, count, sizeof *name_hashes, compare_hashes);
    tier->left_out = name_hashes;
    tier->left_out_count = count;
}

static bool leaves_out(const struct disk_tier *tier, uint64_t hash) {
    return tier->left_out_count > 0 && bsearch(&hash, tier->left_out, tier->left_out_count,
                                               sizeof hash, compare_hashes) != NULL;
}

void disk_tier_tell_progress(struct disk_tier *tier) {
    pthread_mutex_lock(&tier->lock);
    tier->progress++;
    pthread_cond_broadcast(&tier->changed);
    pthread_mutex_unlock(&tier->lock);
    if (tier->on_progress)
        tier->on_progress(tier->context);
}

void disk_tier_submit(struct disk_tier *tier, struct disk_job *job) {
    if (!disk_submit(tier->disk, job))
        abort(); /* the queue has no end */
}

uint64_t disk_tier_progress(struct disk_tier *tier) {
    pthread_mutex_lock(&tier->lock);
    uint64_t progress = tier->progress;
    pthread_mutex_unlock(&tier->lock);
    return progress;
}

void disk_tier_await_progress(struct disk_tier *tier, uint64_t since, uint64_t most_ns) {
    uint64_t end_ns = clock_now_ns() + most_ns;
    struct timespec end = {.tv_sec = (time_t)(end_ns / CLOCK_NS_PER_S),
                           .tv_nsec = (long)(end_ns % CLOCK_NS_PER_S)};
    int status = 0;
    pthread_mutex_lock(&tier->lock);
    while (tier->progress == since && status == 0)
        status = pthread_cond_timedwait(&tier->changed, &tier->lock, &end);
    pthread_mutex_unlock(&tier->lock);
}

void disk_tier_tell_shortage(struct disk_tier *tier, enum disk_shortage shortage) {
    atomic_fetch_or(&tier->shortage, (int)shortage);
    struct keeper *keeper = atomic_load(&tier->keeper);
    if (keeper)
        keeper_poke(keeper);
}

void disk_tier_tell_failure(struct disk_tier *tier, enum disk_status status, bool spilling) {
    bool full = status == DISK_FULL;
    atomic_fetch_add(&tier->counts.failed_writes, 1);
    atomic_fetch_add(&tier->counts.broken_writes, !full);
    if (full)
        disk_tier_tell_shortage(tier, spilling ? DISK_SHORT_FOR_SPILLING : DISK_SHORT_FOR_SAVING);
}

struct waited {
    struct disk_tier *tier;
    bool done;
};

static void tell_waiting(struct disk_job *job) {
    struct waited *waited = job->context;
    pthread_mutex_lock(&waited->tier->lock);
    waited->done = true;
    pthread_cond_broadcast(&waited->tier->changed);
    pthread_mutex_unlock(&waited->tier->lock);
}

void disk_tier_do(struct disk_tier *tier, struct disk_job *job) {
    struct waited waited = {.tier = tier};
    job->done = tell_waiting;
    job->context = &waited;
    disk_tier_submit(tier, job);
    pthread_mutex_lock(&tier->lock);
    while (!waited.done)
        pthread_cond_wait(&tier->changed, &tier->lock);
    pthread_mutex_unlock(&tier->lock);
}

void disk_tier_forget(struct disk_tier *tier, enum disk_kind kind, uint64_t id) {
    if (!atomic_load(&tier->ending))
        disk_forget(tier->disk, (struct disk_key){.id = id, .kind = (uint8_t)kind});
}

void disk_tier_forget_chunk(struct disk_tier *tier, const struct chunk *chunk) {
    disk_tier_forget(tier, DISK_CHUNK, chunk->id);
}

/* --- deleting --- */

int disk_promise_status(const struct disk_promise *promise) {
    return atomic_load(&promise->status);
}

void disk_promise_release(struct disk_promise *promise) {
    if (atomic_fetch_sub(&promise->references, 1) == 1)
        free(promise);
}

static struct disk_promise **place_of(struct disk_tier *tier, uint64_t name_hash) {
    return &tier->deletes[name_hash % DISK_TIER_DELETES];
}

static void take_out(struct disk_promise *promise) {
    struct disk_promise **place = place_of(promise->tier, promise->name_hash);
    while (*place != promise)
        place = &(*place)->next;
    *place = promise->next;
}

static bool is_of_chain(uint64_t session_id) {
    return session_id > STORE_CHAIN_IDS;
}

/* One that could not be kept stays the tier's: the name is not free. */
static void end_delete(struct disk_job *job) {
    struct disk_promise *promise = (struct disk_promise *)job;
    struct disk_tier *tier = promise->tier;
    bool done = job->status == DISK_OK;
    if (!done)
        log_error("a delete could not be written to disk: it may come back after a restart");
    atomic_fetch_sub(&tier->chain_deletes, done && is_of_chain(promise->job.key.id));
    pthread_mutex_lock(&tier->lock);
    if (done)
        take_out(promise);
    atomic_store(&promise->status, done ? STORE_OK : STORE_DISK);
    pthread_mutex_unlock(&tier->lock);
    if (done)
        disk_promise_release(promise);
    disk_tier_tell_progress(tier);
}

static struct disk_promise *promise_new(struct disk_tier *tier) {
    struct disk_promise *promise = calloc(1, sizeof *promise);
    if (!promise)
        return NULL;
    promise->tier = tier;
    promise->references = 2;
    promise->status = STORE_WAIT;
    return promise;
}

static void submit_delete(struct disk_promise *promise, uint64_t session_id) {
    promise->status = STORE_WAIT;
    promise->job = (struct disk_job){.operation = DISK_DELETE,
                                     .key = {.id = session_id, .kind = DISK_SESSION},
                                     .durable = true,
                                     .done = end_delete};
    disk_tier_submit(promise->tier, &promise->job);
}

struct disk_promise *disk_tier_delete(struct disk_tier *tier, uint64_t session_id,
                                      uint64_t name_hash) {
    struct disk_promise *promise = promise_new(tier), **place = place_of(tier, name_hash);
    if (!promise)
        return NULL;
    promise->name_hash = name_hash;
    pthread_mutex_lock(&tier->lock);
    promise->next = *place;
    *place = promise;
    atomic_fetch_add(&tier->chain_deletes, is_of_chain(session_id));
    submit_delete(promise, session_id);
    pthread_mutex_unlock(&tier->lock);
    return promise;
}

/* With the tier locked: STORE_OK without a delete that is owed to the disk. */
static int owed_status(struct disk_tier *tier, uint64_t name_hash) {
    int status = STORE_OK;
    for (struct disk_promise *promise = *place_of(tier, name_hash); promise;
         promise = promise->next) {
        if (promise->name_hash != name_hash)
            continue;
        bool failed = disk_promise_status(promise) == STORE_DISK;
        if (failed)
            submit_delete(promise, promise->job.key.id);
        if (status != STORE_BUSY)
            status = failed ? STORE_BUSY : STORE_WAIT;
    }
    return status;
}

int disk_tier_admit(struct disk_tier *tier, const struct session_names *names) {
    uint64_t hash = disk_tier_hash_name(&(struct disk_metadata){
        .tenant = names->tenant->name,
        .tenant_bytes = names->tenant->name_bytes,
        .session = names->session,
        .session_bytes = names->session_bytes,
    });
    if (!disk_tier_is_on(tier))
        return STORE_OK;
    pthread_mutex_lock(&tier->lock);
    int status = owed_status(tier, hash);
    pthread_mutex_unlock(&tier->lock);
    return status == STORE_OK && leaves_out(tier, hash) ? STORE_FULL : status;
}

static void end_sync(struct disk_job *job) {
    struct disk_promise *promise = (struct disk_promise *)job;
    struct disk_tier *tier = promise->tier;
    atomic_store(&promise->status, job->status == DISK_OK ? STORE_OK : STORE_DISK);
    disk_promise_release(promise);
    disk_tier_tell_progress(tier);
}

struct disk_promise *disk_tier_sync(struct disk_tier *tier) {
    struct disk_promise *promise = promise_new(tier);
    if (!promise)
        return NULL;
    promise->job = (struct disk_job){.operation = DISK_SYNC, .durable = true, .done = end_sync};
    disk_tier_submit(tier, &promise->job);
    return promise;
}

/* --- writing --- */

struct chunk_write {
    struct disk_job job;
    struct disk_tier *tier;
    struct chunk *chunk;   /* owned reference */
    struct record *record; /* owned pin */
    struct charge charge;
    bool drop;
    uint8_t summary[RECORD_SUMMARY_BYTES];
    struct disk_part parts[]; /* the summary, that of the keys, then the record's */
};

static uint64_t drop_bytes(struct disk_tier *tier, struct chunk *chunk) {
    uint64_t bytes = chunk_drop_bytes(chunk);
    atomic_fetch_add(&tier->counts.spilled_chunks, bytes > 0);
    atomic_fetch_add(&tier->counts.spilled_bytes, bytes);
    return bytes;
}

static void end_write(struct disk_job *job) {
    struct chunk_write *write = (struct chunk_write *)job;
    struct disk_tier *tier = write->tier;
    bool done = job->status == DISK_OK;
    if (done) {
        atomic_store(&tier->unrelieved, false);
        atomic_fetch_add(&tier->counts.written_chunks, 1);
        atomic_fetch_add(&tier->counts.written_chunk_bytes, write->record->bytes);
    }
    if (!done)
        disk_tier_tell_failure(tier, job->status, write->drop);
    if (write->drop) /* who waits for this looks for failures then */
        atomic_fetch_sub(&tier->counts.spilling_bytes, write->record->reserved_bytes);
    charge_release(&write->charge);
    chunk_end_write(write->chunk, write->record, done ? tier : NULL);
    record_unpin(write->record);
    if (done && write->drop)
        drop_bytes(tier, write->chunk);
    chunk_unref(write->chunk);
    free(write);
    disk_tier_tell_progress(tier);
}

/* Takes over the pin. NULL, with the pin as it was, without memory or if the record is damaged. */
static struct chunk_write *write_new(struct disk_tier *tier, struct chunk *chunk,
                                     struct record *record) {
    size_t parts_max = record_parts_max(record);
    const struct key_summary *keys = &chunk->summary;
    size_t front = keys->bytes > 0 ? 2 : 1;
    struct chunk_write *write =
        calloc(1, sizeof *write + (front + parts_max) * sizeof write->parts[0]);
    size_t count = write ? record_parts(record, write->parts + front, parts_max) : 0;
    if (count == 0) {
        free(write);
        return NULL;
    }
    struct record_spec spec;
    record_read_spec(record, &spec);
    record_write_summary(record, write->summary);
    write->parts[0] = (struct disk_part){write->summary, sizeof write->summary};
    if (keys->bytes > 0)
        write->parts[1] = (struct disk_part){key_summary_memory(keys), keys->bytes};
    write->tier = tier;
    write->chunk = chunk;
    write->record = record;
    write->job = (struct disk_job){
        .operation = DISK_WRITE,
        .key = {.id = chunk->id, .kind = DISK_CHUNK},
        .metadata = {.tenant = spec.tenant,
                     .tenant_bytes = spec.tenant_bytes,
                     .model = spec.model,
                     .model_bytes = spec.model_bytes,
                     .session = spec.session,
                     .session_bytes = spec.session_bytes,
                     .first_token = spec.first_token,
                     .tokens = record->tokens,
                     .level = record->level},
        .parts = write->parts,
        .part_count = (uint32_t)(front + count),
        .done = end_write,
    };
    return write;
}

/* To its tenant's quota: what is saved because its client wants it to be is there anyway, and
 * others of the tenant's go for it. */
static bool charge_write(const struct chunk *chunk, const struct record *record, bool spills,
                         struct charge *charge) {
    uint64_t bytes = chunk_written_bytes(chunk, record);
    if (spills)
        return charge_take(charge, chunk->usage->disk_quota, bytes);
    charge_anyway(charge, chunk->usage->disk_quota, bytes);
    return true;
}

uint64_t disk_tier_write_chunk(struct disk_tier *tier, struct chunk *chunk, bool drop) {
    struct record *record = chunk_begin_write(chunk);
    if (!record)
        return drop ? drop_bytes(tier, chunk) : 0;
    struct charge charge = {0};
    struct chunk_write *write = NULL;
    if (charge_write(chunk, record, drop, &charge))
        write = write_new(tier, chunk, record);
    if (!write) {
        charge_release(&charge);
        chunk_end_write(chunk, record, NULL);
        record_unpin(record);
        return 0;
    }
    chunk_ref(chunk);
    write->charge = charge;
    write->drop = drop;
    uint64_t bytes = record->reserved_bytes;
    if (drop)
        atomic_fetch_add(&tier->counts.spilling_bytes, bytes);
    disk_tier_submit(tier, &write->job);
    return bytes;
}

/* --- loading --- */

struct chunk_load {
    struct disk_job job;
    struct disk_tier *tier;
    struct chunk *chunk;            /* owned reference */
    struct record *absent, *record; /* owned pins */
    struct geometry geometry;
};

static void end_load(struct disk_job *job) {
    struct chunk_load *load = (struct chunk_load *)job;
    struct disk_tier *tier = load->tier;
    struct record *record = load->record;
    bool arrived = job->status == DISK_OK && job->bytes == record->bytes &&
                   record_check_arrived(record, &load->geometry) == 0;
    if (arrived) {
        atomic_fetch_add(&tier->counts.loaded_chunks, 1);
        atomic_fetch_add(&tier->counts.loaded_bytes, record->bytes);
    } else {
        atomic_fetch_add(&tier->counts.failed_loads, 1);
        if (job->status != DISK_MISS) /* of a file that is gone the disk has told */
            log_error("a chunk on disk cannot be read: number %llu",
                      (unsigned long long)load->chunk->id);
        record_unpin(record);
    }
    chunk_end_load(load->chunk, load->absent, arrived ? record : NULL,
                   arrived                      ? CHUNK_NOT_LOST
                   : job->status == DISK_FAILED ? CHUNK_LOST_FOR_NOW
                                                : CHUNK_LOST);
    chunk_unref(load->chunk);
    free(load);
    disk_tier_tell_progress(tier);
}

static struct chunk_load *load_new(struct disk_tier *tier, struct chunk *chunk,
                                   struct record *absent, const struct geometry *geometry) {
    struct chunk_load *load = calloc(1, sizeof *load);
    if (!load || !(load->record = record_with_room(absent))) {
        free(load);
        return NULL;
    }
    load->tier = tier;
    load->chunk = chunk;
    load->absent = absent;
    load->geometry = *geometry;
    load->job = (struct disk_job){
        .operation = DISK_READ,
        .key = {.id = chunk->id, .kind = DISK_CHUNK},
        .first_part = chunk->on_disk.summary_bytes > 0 ? 2 : 1, /* behind the summaries */
        .read_parts = DISK_PARTS_MAX,
        .memory = record_room(load->record),
        .capacity = (size_t)absent->bytes,
        .done = end_load,
    };
    return load;
}

int disk_tier_load_chunk(struct disk_tier *tier, struct chunk *chunk,
                         const struct geometry *geometry) {
    struct record *absent;
    int status = chunk_begin_load(chunk, &absent);
    if (status != STORE_MORE)
        return status;
    struct chunk_load *load = load_new(tier, chunk, absent, geometry);
    if (!load) {
        chunk_end_load(chunk, absent, NULL, CHUNK_NOT_LOST);
        return STORE_FULL;
    }
    chunk_ref(chunk);
    disk_tier_submit(tier, &load->job);
    return STORE_WAIT;
}
