#include "daemon/store/attachment_set.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/error.h"
#include "daemon/store/manifest_hold.h"
#include "daemon/store/session.h"

static int compare(const struct attachment *attachment, const char *name, size_t name_bytes) {
    size_t bytes = attachment->spec.name_bytes;
    int order = memcmp(attachment->name, name, bytes < name_bytes ? bytes : name_bytes);
    return order != 0 ? order : (bytes > name_bytes) - (bytes < name_bytes);
}

/* Where one of this name is, or would be. */
static size_t place_of(const struct attachment_set *set, const char *name, size_t name_bytes) {
    size_t i = 0;
    while (i < attachment_set_count(set) && compare(set->attachments[i], name, name_bytes) < 0)
        i++;
    return i;
}

struct attachment *attachment_set_find(const struct attachment_set *set, const char *name,
                                       size_t name_bytes) {
    size_t i = place_of(set, name, name_bytes);
    bool is_there =
        i < attachment_set_count(set) && compare(set->attachments[i], name, name_bytes) == 0;
    return is_there ? set->attachments[i] : NULL;
}

int attachment_set_provide(struct session *session) {
    if (session->attachments)
        return STORE_OK;
    if (!budget_reserve(session->budget, sizeof *session->attachments))
        return STORE_FULL;
    session->attachments = calloc(1, sizeof *session->attachments);
    if (!session->attachments) {
        budget_release(session->budget, sizeof *session->attachments);
        return STORE_FULL;
    }
    if (session->listed)
        usage_add(session->usage, &session->usage->sessions_bytes, sizeof *session->attachments);
    return STORE_OK;
}

static void insert(struct attachment_set *set, size_t place, struct attachment *attachment) {
    memmove(&set->attachments[place + 1], &set->attachments[place],
            (set->count - place) * sizeof(struct attachment *));
    set->attachments[place] = attachment;
    set->count++;
}

int attachment_set_put(struct session *session, struct attachment *attachment,
                       struct attachment **replaced) {
    struct attachment_set *set = session->attachments;
    const struct attachment_spec *spec = &attachment->spec;
    *replaced = attachment_set_find(set, spec->name, spec->name_bytes);
    if (!*replaced && set->count == ATTACHMENTS_MAX)
        return STORE_UNSUPPORTED;
    attachment_own(attachment);
    if (*replaced)
        attachment_set_take(session, *replaced);
    insert(set, place_of(set, spec->name, spec->name_bytes), attachment);
    return STORE_OK;
}

void attachment_set_take(struct session *session, struct attachment *attachment) {
    struct attachment_set *set = session->attachments;
    manifest_hold(session, attachment);
    size_t i = place_of(set, attachment->name, attachment->spec.name_bytes);
    memmove(&set->attachments[i], &set->attachments[i + 1],
            (--set->count - i) * sizeof(struct attachment *));
    session->removed_attachments++;
}

int attachment_set_fork(const struct session *source, struct session *target, uint64_t tokens) {
    const struct attachment_set *set = source->attachments;
    if (attachment_set_count(set) == 0)
        return STORE_OK;
    if (attachment_set_provide(target) != STORE_OK)
        return STORE_FULL;
    for (size_t i = 0; i < set->count; i++) {
        struct attachment *attachment = set->attachments[i];
        if (tokens < source->tokens && attachment->spec.tokens > tokens)
            continue;
        attachment_own(attachment);
        insert(target->attachments, target->attachments->count, attachment);
    }
    return STORE_OK;
}

struct attachment_set *attachment_set_detach(struct session *session) {
    struct attachment_set *set = session->attachments;
    if (set && session->listed)
        usage_sub(session->usage, &session->usage->sessions_bytes, sizeof *set);
    session->attachments = NULL;
    return set;
}

uint64_t attachment_set_drop_last(struct attachment_set *set) {
    return attachment_disown(set->attachments[--set->count]);
}

uint64_t attachment_set_free(struct attachment_set *set, struct budget *budget) {
    uint64_t freed_bytes = 0;
    if (!set)
        return 0;
    while (set->count > 0)
        freed_bytes += attachment_set_drop_last(set);
    budget_release(budget, sizeof *set);
    free(set);
    return freed_bytes + sizeof *set;
}

struct attachment_sums attachment_set_sums(const struct attachment_set *set) {
    struct attachment_sums sums = {0};
    for (size_t i = 0; i < attachment_set_count(set); i++) {
        struct attachment_view view = attachment_view(set->attachments[i]);
        sums.given_bytes += set->attachments[i]->spec.bytes;
        sums.memory_bytes += view.memory_bytes;
        sums.disk_bytes += view.disk_bytes;
        if (view.shared)
            continue;
        sums.unique_bytes += view.memory_bytes;
        sums.freed_memory_bytes += view.in_memory ? view.memory_bytes : 0;
        sums.freed_disk_bytes += view.disk_bytes;
    }
    return sums;
}
