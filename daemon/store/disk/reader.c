#include <errno.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/store/disk/state.h"

/* Where a value lies, with a reference to its segment. */
struct place {
    struct segment *segment;
    uint64_t offset, data_bytes;
    size_t head_bytes;
};

/* What lies where is known of this run's values at once, and of earlier ones once all was scanned.
 * The lock is held. */
static bool is_certain(const struct disk *disk, const struct index_entry *entry) {
    return disk->scanned ||
           (entry && entry->segment && entry->segment->number >= disk->first_number);
}

static const struct index_entry *find_certain(struct disk *disk, struct disk_key key) {
    const struct index_entry *entry = index_find(&disk->index, key);
    while (!is_certain(disk, entry)) {
        if (disk->stopping)
            return NULL;
        pthread_cond_wait(&disk->scan_done, &disk->lock);
        entry = index_find(&disk->index, key);
    }
    return entry && entry->state == INDEX_VALUE ? entry : NULL;
}

static bool find_place(struct disk *disk, struct disk_key key, struct place *place) {
    pthread_mutex_lock(&disk->lock);
    const struct index_entry *entry = find_certain(disk, key);
    if (entry) {
        *place =
            (struct place){entry->segment, entry->offset, entry->data_bytes, entry->head_bytes};
        segment_ref(place->segment);
    }
    pthread_mutex_unlock(&disk->lock);
    return entry != NULL;
}

static void copy_name(char **to, const char **name, size_t bytes) {
    memcpy(*to, *name, bytes);
    *name = *to;
    *to += bytes;
}

static void tell_metadata(struct disk_job *job, const struct head *head) {
    char *to = job->names;
    if (!to)
        return;
    job->metadata = head->metadata;
    copy_name(&to, &job->metadata.tenant, job->metadata.tenant_bytes);
    copy_name(&to, &job->metadata.model, job->metadata.model_bytes);
    copy_name(&to, &job->metadata.session, job->metadata.session_bytes);
}

/* The parts that a job asks for: they lie one behind the other. */
struct range {
    uint32_t begin, end;
    uint64_t offset, bytes; /* in the file */
};

static struct range find_range(struct reader *reader, const struct disk_job *job,
                               const struct head *head, uint64_t offset) {
    struct range range = {
        .begin = job->first_part, .end = job->first_part, .offset = offset + head->head_bytes};
    for (uint32_t i = 0; i < head->part_count; i++) {
        uint64_t bytes = head_part_bytes(head, reader->head, i);
        if (i < job->first_part) {
            range.offset += bytes;
        } else if (i - job->first_part < job->read_parts) {
            range.bytes += bytes;
            range.end = i + 1;
        }
    }
    return range;
}

static bool is_of(const struct head *head, const struct disk_job *job) {
    return head->key.id == job->key.id && head->key.kind == job->key.kind;
}

/* All that is asked for with the head and what lies before it, in one read, if it fills the job's
 * memory: the system then reads ahead as far as it is wanted, and no further. False if it is to be
 * read by and by. */
static bool read_at_once(struct reader *reader, struct disk_job *job, const struct place *place,
                         struct head *head, struct range *range) {
    const struct segment *segment = place->segment;
    uint64_t before = place->data_bytes - job->capacity, begin = place->head_bytes + before;
    if (job->read_parts < DISK_PARTS_MAX || job->capacity > place->data_bytes ||
        begin > HEAD_BYTES_MAX)
        return false;
    struct iovec parts[] = {{reader->head, begin}, {job->memory, job->capacity}};
    if (disk_io_read(segment->io, segment->file, parts, 2, place->offset) < 0 ||
        segment_check_head(segment, &reader->guarder, place->offset, reader->head, begin, head) < 0)
        return false;
    *range = find_range(reader, job, head, place->offset);
    return is_of(head, job) && range->offset == place->offset + begin &&
           range->bytes == job->capacity;
}

static enum disk_status read_by_and_by(struct reader *reader, struct disk_job *job,
                                       const struct place *place, struct head *head,
                                       struct range *range) {
    const struct segment *segment = place->segment;
    if (segment_read_head(segment, &reader->guarder, place->offset, reader->head, head) < 0)
        return segment_could_not_read() ? DISK_FAILED : DISK_DAMAGED;
    *range = find_range(reader, job, head, place->offset);
    if (!is_of(head, job) || range->bytes > job->capacity)
        return DISK_DAMAGED;
    if (segment_read(segment, range->offset, job->memory, range->bytes) < 0)
        return errno == ENODATA ? DISK_DAMAGED : DISK_FAILED;
    return DISK_OK;
}

static enum disk_status check_range(struct reader *reader, struct disk_job *job,
                                    const struct segment *segment, const struct head *head,
                                    const struct range *range) {
    uint64_t at = 0;
    for (uint32_t i = range->begin; i < range->end; i++) {
        if (segment_check_part(segment, &reader->guarder, reader->head, head, i, range->offset + at,
                               job->memory + at) < 0)
            return DISK_DAMAGED;
        at += head_part_bytes(head, reader->head, i);
    }
    job->bytes = at;
    return DISK_OK;
}

static enum disk_status read_value(struct reader *reader, struct disk_job *job,
                                   const struct place *place) {
    enum disk_status status = DISK_OK;
    struct range range;
    struct head head;
    job->bytes = 0;
    if (segment_is_removed(place->segment))
        return DISK_MISS;
    if (!read_at_once(reader, job, place, &head, &range))
        status = read_by_and_by(reader, job, place, &head, &range);
    if (status != DISK_OK)
        return status;
    tell_metadata(job, &head);
    return check_range(reader, job, place->segment, &head, &range);
}

static enum disk_status read_job(struct reader *reader, struct disk_job *job) {
    struct place place;
    if (!find_place(reader->disk, job->key, &place))
        return DISK_MISS;
    enum disk_status status = read_value(reader, job, &place);
    if (status == DISK_DAMAGED || status == DISK_FAILED)
        log_error("the disk: a value in segment %llu at %llu is %s",
                  (unsigned long long)place.segment->number, (unsigned long long)place.offset,
                  status == DISK_FAILED ? strerror(errno) : "damaged");
    segment_unref(place.segment);
    return status;
}

static struct disk_job *await_job(struct disk *disk) {
    pthread_mutex_lock(&disk->lock);
    while (!disk->reads.first && !disk->stopping)
        pthread_cond_wait(&disk->read_wanted, &disk->lock);
    struct disk_job *job = job_queue_take(&disk->reads);
    pthread_mutex_unlock(&disk->lock);
    return job;
}

static void count(struct disk *disk, const struct disk_job *job) {
    pthread_mutex_lock(&disk->lock);
    disk->stats.reads += job->status == DISK_OK;
    disk->stats.read_bytes += job->status == DISK_OK ? job->bytes : 0;
    disk->stats.damaged_reads += job->status == DISK_DAMAGED;
    pthread_mutex_unlock(&disk->lock);
}

void *disk_reader_run(void *argument) {
    struct reader *reader = argument;
    struct disk_job *job;
    pthread_setname_np(pthread_self(), "disk reader");
    while ((job = await_job(reader->disk))) {
        job->status = read_job(reader, job);
        count(reader->disk, job);
        job->done(job);
    }
    return NULL;
}
