#include "daemon/store/token_ids.h"

#include <string.h>

#include "daemon/base/bytes.h"

void token_ids_read(const uint8_t *bytes, size_t count, uint32_t *ids) {
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint32_t)bytes_get(bytes + i * sizeof *ids, sizeof *ids);
}

/* Leaves out salts of other tokens. */
static struct token_ids with_its_salts(struct token_ids text) {
    size_t count = 0;
    while (text.salt_count > 0 && text.salts->end <= text.first) {
        text.salts++;
        text.salt_count--;
    }
    while (count < text.salt_count && text.salts[count].first < text.first + text.count)
        count++;
    text.salt_count = count;
    return text;
}

struct token_ids token_ids_head(const struct token_ids *text, size_t count) {
    struct token_ids head = *text;
    head.count = count < text->count ? count : text->count;
    return with_its_salts(head);
}

struct token_ids token_ids_behind(const struct token_ids *text, size_t count) {
    struct token_ids rest = *text;
    rest.first += count;
    rest.count -= count;
    rest.ids += count;
    return with_its_salts(rest);
}

static const struct salt *salt_at(const struct token_ids *text, uint64_t token) {
    static const struct salt none;
    for (size_t i = 0; i < text->salt_count; i++)
        if (text->salts[i].first <= token && token < text->salts[i].end)
            return &text->salts[i];
    return &none;
}

static int compare_salts(const struct token_ids *a, const struct token_ids *b, size_t index) {
    const struct salt *salt_a = salt_at(a, a->first + index),
                      *salt_b = salt_at(b, b->first + index);
    if (salt_a->bytes != salt_b->bytes)
        return salt_a->bytes < salt_b->bytes ? -1 : 1;
    return memcmp(salt_a->text, salt_b->text, salt_a->bytes);
}

size_t token_ids_common(const struct token_ids *a, const struct token_ids *b) {
    size_t most = a->count < b->count ? a->count : b->count, ids = 0, common = 0;
    while (ids < most && a->ids[ids] == b->ids[ids])
        ids++;
    if (a->salt_count + b->salt_count == 0)
        return ids;
    while (common < ids && compare_salts(a, b, common) == 0)
        common++;
    return common;
}

int token_ids_compare(const struct token_ids *a, const struct token_ids *b) {
    size_t at = token_ids_common(a, b);
    if (at == a->count || at == b->count)
        return (at < a->count) - (at < b->count);
    if (a->ids[at] != b->ids[at])
        return a->ids[at] < b->ids[at] ? -1 : 1;
    return compare_salts(a, b, at);
}
