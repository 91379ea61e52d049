#include "tests/fuzz/page_bytes.h"

#include "proto/page/page.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum {
    VALUE_BYTES_MAX = PAGE_VALUES_MAX * 4,
    PAGE_ROOM = 2 << 20,
    BLOCK = 32, /* of the dtypes that have blocks */
    VALUES_ROOM = VALUE_BYTES_MAX + PAGE_TOKENS_MAX * 4 * BLOCK,
};

/* One attempt at one string of bytes. */
struct attempt {
    struct page_reader *reader;
    const uint8_t *page;
    size_t length;
    bool at_end;
    struct page_info info;
    XXH64_hash_t digest;
};

struct page_reader page_reader_new(void) {
    struct page_reader reader = {
        .page = guarded_room_new(PAGE_ROOM),
        .other = guarded_room_new(PAGE_ROOM),
        .values = {guarded_room_new(VALUES_ROOM), guarded_room_new(VALUES_ROOM)},
        .aged = {guarded_room_new(PAGE_ROOM), guarded_room_new(PAGE_ROOM)},
        .workspace = guarded_room_new(PAGE_WORKSPACE_BYTES),
    };
    memset(reader.workspace.first, 0xa5, reader.workspace.bytes);
    return reader;
}

void page_reader_free(struct page_reader *reader) {
    guarded_room_free(&reader->page);
    guarded_room_free(&reader->other);
    guarded_room_free(&reader->values[0]);
    guarded_room_free(&reader->values[1]);
    guarded_room_free(&reader->aged[0]);
    guarded_room_free(&reader->aged[1]);
    guarded_room_free(&reader->workspace);
}

static void note(struct attempt *attempt, const void *bytes, size_t count) {
    attempt->digest = XXH3_64bits_withSeed(bytes, count, attempt->digest);
}

static void note_number(struct attempt *attempt, uint64_t number) {
    note(attempt, &number, sizeof number);
}

static void *workspace_of(struct attempt *attempt) {
    return guarded_place(&attempt->reader->workspace, PAGE_WORKSPACE_BYTES, attempt->at_end);
}

static void check_info(const struct page_info *info) {
    const struct page_shape *shape = &info->shape;
    must(shape->tokens >= 1 && shape->tokens <= PAGE_TOKENS_MAX && shape->heads >= 1 &&
             shape->head_dim >= 1 &&
             (uint64_t)shape->tokens * shape->heads * shape->head_dim <= PAGE_VALUES_MAX,
         "a page's shape is possible");
    must(shape->dtype >= PAGE_F16 && shape->dtype <= PAGE_Q4_0, "a page's dtype is one");
    must(page_row_bytes(shape->dtype, shape->head_dim) > 0, "a head has whole blocks");
    must(info->level >= PAGE_LEVEL_MIN && info->level <= PAGE_LEVEL_MAX, "a page's level is one");
    must(info->sink_tokens <= info->exact_tokens && info->exact_tokens <= shape->tokens,
         "exact tokens are the page's");
    must(isfinite(info->loss.error) && info->loss.error >= 0 && isfinite(info->loss.energy) &&
             info->loss.energy >= 0,
         "a page's loss is a number");
}

static size_t row_of(const struct page_info *info) {
    return (size_t)info->shape.heads * info->shape.head_dim;
}

/* Tokens first.. of the page, with a gap behind each token if wanted, into one of the rooms. */
static struct page_target target_in(struct attempt *attempt, size_t room, uint32_t first,
                                    uint32_t tokens, enum page_dtype dtype, size_t gap) {
    size_t row = row_of(&attempt->info);
    size_t values = tokens > 0 ? (row + gap) * (tokens - 1) + row : 0;
    return (struct page_target){
        .first = first,
        .tokens = tokens,
        .dtype = dtype,
        .values = guarded_place(&attempt->reader->values[room], page_row_bytes(dtype, values),
                                attempt->at_end),
        .strides = {.token = row + gap, .head = attempt->info.shape.head_dim},
    };
}

static int decode(struct attempt *attempt, const struct page_target *target) {
    int error = page_decode(attempt->page, attempt->length, target, workspace_of(attempt));
    must(error == PAGE_OK || error == PAGE_DAMAGED, "a page is decoded or damaged");
    note_number(attempt, (uint64_t)error);
    return error;
}

/* Whole pages without gaps are one string of values. */
static size_t bytes_of(const struct attempt *attempt, const struct page_target *target) {
    return page_row_bytes(target->dtype, row_of(&attempt->info) * target->tokens);
}

static void compare_range(const struct attempt *attempt, const struct page_target *whole,
                          const struct page_target *range) {
    size_t row = page_row_bytes(whole->dtype, row_of(&attempt->info));
    size_t stride = page_row_bytes(whole->dtype, range->strides.token);
    const uint8_t *from = (const uint8_t *)whole->values + range->first * row;
    for (uint32_t t = 0; t < range->tokens; t++)
        must(memcmp((const uint8_t *)range->values + t * stride, from + t * row, row) == 0,
             "a range has the values of the whole page");
}

/* Values between a token's and the next one's: a few, or a block. */
static size_t gap_of(enum page_dtype dtype) {
    return page_value_bytes(dtype) > 0 ? 3 : BLOCK;
}

static void try_range(struct attempt *attempt, const struct page_target *whole, int error) {
    uint32_t tokens = attempt->info.shape.tokens, first = (uint32_t)(attempt->length % tokens);
    uint32_t count = 1 + (uint32_t)(attempt->length / 7 % (tokens - first));
    struct page_target range =
        target_in(attempt, 1, first, count, whole->dtype, gap_of(whole->dtype));
    int range_error = decode(attempt, &range);
    must(error != PAGE_OK || range_error == PAGE_OK, "a part of a good page is good");
    if (error == PAGE_OK)
        compare_range(attempt, whole, &range);
}

static void try_other_dtype(struct attempt *attempt, int error) {
    enum page_dtype other = attempt->info.shape.dtype % PAGE_F32 + PAGE_F16;
    struct page_target target = target_in(attempt, 1, 0, attempt->info.shape.tokens, other, 0);
    must(decode(attempt, &target) == error, "a page decodes to every dtype or to none");
    if (error == PAGE_OK)
        note(attempt, target.values, bytes_of(attempt, &target));
}

/* The page beside itself, each from and to memory of its own. */
static void try_pair(struct attempt *attempt, const struct page_target *whole, int error) {
    struct page_reader *reader = attempt->reader;
    size_t bytes = bytes_of(attempt, whole);
    uint8_t *other = guarded_place(&reader->other, attempt->length, attempt->at_end);
    memcpy(other, attempt->page, attempt->length);
    XXH64_hash_t expected = XXH3_64bits(whole->values, bytes);
    struct page_bytes pages[2] = {{attempt->page, attempt->length}, {other, attempt->length}};
    struct page_target targets[2] = {*whole,
                                     target_in(attempt, 1, 0, whole->tokens, whole->dtype, 0)};
    int pair_error = page_decode_pair(pages, targets, workspace_of(attempt));
    must((pair_error == PAGE_OK) == (error == PAGE_OK), "a pair is good if both pages are");
    for (int i = 0; error == PAGE_OK && i < 2; i++)
        must(XXH3_64bits(targets[i].values, bytes) == expected,
             "a page's values are the same in a pair");
}

static void check_aged(struct attempt *attempt, const uint8_t *aged, size_t written, int level) {
    struct page_info before = attempt->info;
    must(written <= attempt->length, "an aged page is not longer");
    must(page_peek(aged, written, &attempt->info) == PAGE_OK, "an aged page is a page");
    check_info(&attempt->info);
    must(attempt->info.level == level && attempt->info.shape.tokens == before.shape.tokens &&
             row_of(&attempt->info) == row_of(&before),
         "an aged page has the level asked for and its shape");
    struct page_target target =
        target_in(attempt, 0, 0, before.shape.tokens, before.shape.dtype, 0);
    must(page_decode(aged, written, &target, workspace_of(attempt)) == PAGE_OK,
         "an aged page decodes");
    note(attempt, aged, written);
    note(attempt, target.values, bytes_of(attempt, &target));
}

static uint8_t *aged_in(struct attempt *attempt, size_t room) {
    return guarded_place(&attempt->reader->aged[room], attempt->length, attempt->at_end);
}

/* The page beside itself, of which each becomes what it becomes alone. */
static void try_age_pair(struct attempt *attempt, int level, int error, XXH64_hash_t expected) {
    size_t length = attempt->length, out_bytes[2] = {length, length}, written[2] = {0};
    uint8_t *other = guarded_place(&attempt->reader->other, length, attempt->at_end);
    memcpy(other, attempt->page, length);
    struct page_bytes pages[2] = {{attempt->page, length}, {other, length}};
    void *outs[2] = {aged_in(attempt, 0), aged_in(attempt, 1)};
    int pair_error =
        page_age_pair(pages, level, workspace_of(attempt), outs, out_bytes, written, NULL);
    must(pair_error == error, "a pair ages if both pages do");
    for (int i = 0; error == PAGE_OK && i < 2; i++)
        must(XXH3_64bits(outs[i], written[i]) == expected, "a page ages the same in a pair");
}

static void try_age(struct attempt *attempt, int error) {
    int level = attempt->info.level + 1 + (int)(attempt->length % 2);
    uint8_t *out = aged_in(attempt, 0);
    size_t written = 0;
    int age_error = page_age((struct page_bytes){attempt->page, attempt->length}, level,
                             workspace_of(attempt), out, attempt->length, &written, NULL);
    note_number(attempt, (uint64_t)age_error);
    bool possible = attempt->info.level >= 0 && level <= PAGE_LEVEL_MAX;
    must(possible || age_error == PAGE_ARGUMENT, "only levels from 0 on age, to coarser ones");
    must(age_error != PAGE_OK || error == PAGE_OK, "what ages is a good page");
    if (age_error == PAGE_OK)
        check_aged(attempt, out, written, level);
    try_age_pair(attempt, level, age_error, XXH3_64bits(out, written));
}

uint64_t page_reader_try(struct page_reader *reader, const uint8_t *bytes, size_t length,
                         bool at_end) {
    length = length < PAGE_ROOM ? length : PAGE_ROOM;
    uint8_t *page = guarded_place(&reader->page, length, at_end);
    memcpy(page, bytes, length);
    struct attempt attempt = {.reader = reader, .page = page, .length = length, .at_end = at_end};
    int peeked = page_peek(page, length, &attempt.info);
    note_number(&attempt, (uint64_t)peeked);
    if (peeked != PAGE_OK) {
        struct page_target nothing = {.dtype = PAGE_F16, .values = reader->values[0].first};
        must(page_decode(page, length, &nothing, workspace_of(&attempt)) == peeked,
             "page_decode() says what page_peek() says");
        return attempt.digest;
    }
    check_info(&attempt.info);
    struct page_target whole =
        target_in(&attempt, 0, 0, attempt.info.shape.tokens, attempt.info.shape.dtype, 0);
    int error = decode(&attempt, &whole);
    if (error == PAGE_OK)
        note(&attempt, whole.values, bytes_of(&attempt, &whole));
    try_range(&attempt, &whole, error);
    try_other_dtype(&attempt, error);
    try_pair(&attempt, &whole, error);
    try_age(&attempt, error);
    return attempt.digest;
}
