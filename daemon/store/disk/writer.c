#include "daemon/store/disk/state.h"

enum { GROUP_BYTES = 16 << 20 /* about so many share one fdatasync */ };

static bool has_key(const struct group *group, struct disk_key key) {
    for (size_t i = 0; i < group->count; i++)
        if (group->written[i].job->key.id == key.id && group->written[i].job->key.kind == key.kind)
            return true;
    return false;
}

/* A group has a key once: what is known of it is then known before the next job begins. */
static void take_group(struct disk *disk, struct group *group) {
    const struct disk_job *job;
    *group = (struct group){0};
    while ((job = disk->writes.first) && group->count < DISK_GROUP_JOBS &&
           group->bytes < GROUP_BYTES) {
        if (job->operation != DISK_SYNC && has_key(group, job->key))
            return;
        struct written *written = &group->written[group->count++];
        *written = (struct written){.job = job_queue_take(&disk->writes)};
        group->bytes += job_bytes(job);
        group->durable |= job->durable || job->operation == DISK_SYNC;
    }
}

static const void *part_memory(void *context, uint32_t part) {
    const struct disk_job *job = context;
    return job->parts[part].memory;
}

static uint64_t part_bytes(void *context, uint32_t part) {
    const struct disk_job *job = context;
    return job->parts[part].bytes;
}

static void await_scan(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    while (!disk->scanned && !disk->stopping)
        pthread_cond_wait(&disk->scan_done, &disk->lock);
    pthread_mutex_unlock(&disk->lock);
}

/* Makes room: by reclaiming, if there is anything to reclaim. */
static bool make_room(struct disk *disk, uint64_t record_bytes, uint64_t reserve_bytes) {
    while (!disk_fits(disk, record_bytes, reserve_bytes)) {
        await_scan(disk);
        if (!disk_reclaim_step(disk, true))
            return false;
    }
    return true;
}

static int reserve_memory(struct disk *disk, const struct disk_job *job) {
    size_t largest = 0;
    for (uint32_t i = 0; disk->appender.place.key && i < job->part_count; i++)
        if (job->parts[i].bytes > largest)
            largest = job->parts[i].bytes;
    pthread_mutex_lock(&disk->lock);
    int status = index_reserve(&disk->index, job->key);
    pthread_mutex_unlock(&disk->lock);
    return status < 0 ? -1 : appender_provide(&disk->appender, largest);
}

/* Whether the key has, or may have, anything that a delete has to outlast. */
static bool needs_tombstone(struct disk *disk, struct disk_key key) {
    pthread_mutex_lock(&disk->lock);
    const struct index_entry *entry = index_find(&disk->index, key);
    bool needs = !disk->scanned || (entry && entry->state != INDEX_DELETED);
    pthread_mutex_unlock(&disk->lock);
    return needs;
}

static enum disk_status write_record(struct disk *disk, struct written *written) {
    struct disk_job *job = written->job;
    bool deletes = job->operation == DISK_DELETE;
    struct head *head = &written->head;
    *head = (struct head){.key = job->key, .deleted = deletes, .metadata = job->metadata};
    if (!deletes) {
        head->part_count = job->part_count;
        head->data_bytes = job_bytes(job);
    }
    if (reserve_memory(disk, job) < 0)
        return DISK_NO_MEMORY;
    uint64_t reserve_bytes = disk->appender.segment_bytes;
    head->history_count = HEAD_HISTORY_MAX;
    head_lay_out(head);
    if (!make_room(disk, head_record_bytes(head), deletes ? reserve_bytes / 2 : reserve_bytes))
        return DISK_FULL;
    struct part_source source = {part_memory, part_bytes, job, false};
    return disk_append(disk, head, &source, &written->record);
}

/* `syncs`: whether anything can become durable. */
static void do_job(struct disk *disk, struct written *written, bool syncs) {
    struct disk_job *job = written->job;
    job->status = DISK_OK;
    if (!syncs && (job->durable || job->operation == DISK_SYNC)) {
        job->status = DISK_FAILED;
        return;
    }
    if (job->operation == DISK_SYNC ||
        (job->operation == DISK_DELETE && !needs_tombstone(disk, job->key)))
        return;
    job->status = write_record(disk, written);
}

static void count(struct disk_stats *stats, const struct disk_job *job) {
    bool done = job->status == DISK_OK;
    stats->refused_full += job->status == DISK_FULL;
    stats->failed_writes += job->status == DISK_FAILED && job->operation != DISK_SYNC;
    if (!done)
        return;
    stats->syncs += job->operation == DISK_SYNC;
    stats->deletes += job->operation == DISK_DELETE;
    if (job->operation == DISK_WRITE) {
        stats->writes++;
        stats->written_bytes += job_bytes(job);
    }
}

/* What was written counts from now on; what was to be durable and is not, never did. */
static void finish_job(struct disk *disk, struct written *written, enum disk_status synced) {
    struct disk_job *job = written->job;
    const struct segment *segment = written->record.segment;
    if (job->status == DISK_OK && (job->durable || job->operation == DISK_SYNC))
        job->status = !segment ? synced : segment->unsafe ? DISK_FAILED : DISK_OK;
    pthread_mutex_lock(&disk->lock);
    if (segment && job->status == DISK_OK)
        index_add(&disk->index, &written->record);
    count(&disk->stats, job);
    pthread_mutex_unlock(&disk->lock);
    job->done(job);
}

static void do_group(struct disk *disk, struct group *group) {
    bool syncs = !group->durable || disk_rescue(disk);
    const struct segment *segment = disk->appender.segment;
    enum disk_status synced = DISK_OK;
    disk->group_number = segment ? segment->number : disk->appender.next_number;
    for (size_t i = 0; i < group->count; i++)
        do_job(disk, &group->written[i], syncs);
    if (group->durable)
        synced = disk_sync_all(disk);
    for (size_t i = 0; i < group->count; i++)
        finish_job(disk, &group->written[i], synced);
    disk->group_number = UINT64_MAX;
}

/* False when there is no more to do. */
static bool await_work(struct disk *disk, struct group *group) {
    group->count = 0;
    pthread_mutex_lock(&disk->lock);
    while (!disk->writes.first && !disk->stopping && !disk_wants_reclaim(disk))
        pthread_cond_wait(&disk->write_wanted, &disk->lock);
    take_group(disk, group);
    bool goes_on = group->count > 0 || !disk->stopping;
    pthread_mutex_unlock(&disk->lock);
    return goes_on;
}

static bool is_nearly_full(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    bool nearly = disk->used_bytes > disk->limit_bytes / 8 * 7;
    pthread_mutex_unlock(&disk->lock);
    return nearly;
}

void *disk_writer_run(void *argument) {
    struct disk *disk = argument;
    struct group *group = &disk->group;
    pthread_setname_np(pthread_self(), "disk writer");
    while (await_work(disk, group)) {
        do_group(disk, group);
        if (group->count == 0 || is_nearly_full(disk))
            disk_reclaim_step(disk, false);
    }
    if (disk->appender.segment)
        disk_close_segment(disk);
    return NULL;
}
