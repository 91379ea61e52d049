/* The token ids of an append: gathered as they come, the session's with the commit. */
#include <string.h>

#include "daemon/store/append_runs.h"

uint64_t append_ids_bytes(const struct append_request *request) {
    if (!request->token_ids)
        return 0;
    return request->tokens * sizeof(uint32_t) + request->salt_count * sizeof(struct salt);
}

void append_ids_init(struct append *append, const struct append_request *request, void *memory) {
    struct append_ids *ids = &append->ids;
    ids->wanted = request->token_ids;
    if (!ids->wanted)
        return;
    ids->salts = memory;
    ids->salt_count = request->salt_count;
    ids->ids = (uint32_t *)(ids->salts + ids->salt_count);
    if (ids->salt_count > 0)
        memcpy(ids->salts, request->salts, ids->salt_count * sizeof *ids->salts);
}

int append_put_ids(struct append_member *member, uint64_t first, const void *ids, size_t bytes) {
    struct append *append = member->append;
    struct append_ids *own = &append->ids;
    uint64_t count = bytes / sizeof *own->ids, seen = own->count;
    uint32_t sender = 0;
    if (append->members.failed)
        return STORE_CANCELLED;
    if (!own->wanted || bytes % sizeof *own->ids != 0 || count == 0 ||
        first != append->first + seen || count > append->end - first)
        return STORE_INVALID;
    if (!atomic_compare_exchange_strong(&own->member, &sender, member->number) &&
        sender != member->number)
        return STORE_INVALID;
    token_ids_read(ids, count, own->ids + seen);
    own->count = seen + count;
    return STORE_OK;
}

int append_ids_publish(struct append *append) {
    const struct append_ids *ids = &append->ids;
    struct token_ids text = {.first = append->first,
                             .count = ids->wanted ? ids->count : 0,
                             .ids = ids->ids,
                             .salts = ids->salts,
                             .salt_count = ids->salt_count};
    return prefix_extend(&append->store->prefixes, append->session, &text);
}
