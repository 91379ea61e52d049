/* A stretch of a sequence's token ids, with salts where ids alone do not say what the model saw:
 * images and audio behind placeholder ids, adapters.
 */
#ifndef DAEMON_STORE_TOKEN_IDS_H
#define DAEMON_STORE_TOKEN_IDS_H

#include <stddef.h>
#include <stdint.h>

enum { SALT_BYTES_MAX = 64 };

/* Of tokens first .. end - 1; an empty one is as none. */
struct salt {
    uint64_t first, end;
    size_t bytes;
    uint8_t text[SALT_BYTES_MAX];
};

/* Positions, of salts too, count from the sequence's start. Salts ascend and do not overlap; those
 * of other tokens may be among them. */
struct token_ids {
    uint64_t first;
    size_t count;
    const uint32_t *ids;
    const struct salt *salts;
    size_t salt_count;
};

/* Reads so many as they come on the wire. */
void token_ids_read(const uint8_t *bytes, size_t count, uint32_t *ids);

/* At most so many of its first tokens, or what stands behind them. */
struct token_ids token_ids_head(const struct token_ids *text, size_t count);
struct token_ids token_ids_behind(const struct token_ids *text, size_t count);

/* In how many of their first tokens two that begin at the same position agree, ids and salts. */
size_t token_ids_common(const struct token_ids *a, const struct token_ids *b);

/* Below, at or above 0 as a stands before b, is the same or stands behind: by the first token in
 * which they differ; what ends there stands before. So of a sorted row the one that agrees with a
 * text in the most tokens is a neighbour of the place where the text would stand. */
int token_ids_compare(const struct token_ids *a, const struct token_ids *b);

#endif
