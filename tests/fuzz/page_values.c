#include "tests/fuzz/page_values.h"

#include "proto/page/quantise.h"
#include "tests/fuzz/value_number.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum {
    GAP_MAX = 8, /* a head_dim of 1 is the worst; of blocks, a gap as long as the head */
    ROOM = 4 * PAGE_VALUES_MAX * (1 + GAP_MAX) + 64,
    PAGE_ROOM = 2 << 20,
    UNTOUCHED = 0xa5,
};

struct page_writer page_writer_new(void) {
    struct page_writer writer = {
        .source = guarded_room_new(ROOM),
        .page = guarded_room_new(PAGE_ROOM),
        .again = guarded_room_new(PAGE_ROOM),
        .target = guarded_room_new(ROOM),
        .workspace = guarded_room_new(PAGE_WORKSPACE_BYTES),
    };
    memset(writer.workspace.first, UNTOUCHED, writer.workspace.bytes);
    return writer;
}

void page_writer_free(struct page_writer *writer) {
    guarded_room_free(&writer->source);
    guarded_room_free(&writer->page);
    guarded_room_free(&writer->again);
    guarded_room_free(&writer->target);
    guarded_room_free(&writer->workspace);
}

/* ---- where values lie ---- */

struct layout {
    struct page_strides strides;
    size_t bytes; /* from the first value to the end of the last */
};

static struct layout layout_of(const struct page_values *values) {
    const struct page_shape *shape = &values->shape;
    size_t part = shape->head_dim + values->gap;
    struct page_strides strides = {.token = part * shape->heads, .head = part};
    if (values->by_heads)
        strides = (struct page_strides){.token = part, .head = part * shape->tokens};
    size_t last = (shape->tokens - 1) * strides.token + (shape->heads - 1) * strides.head;
    return (struct layout){strides, page_row_bytes(shape->dtype, last + shape->head_dim)};
}

static uint8_t *place(const struct guarded_room *room, const struct page_values *values,
                      size_t bytes) {
    return guarded_place(room, bytes, values->at_end) + (values->at_end ? 0 : values->off_bytes);
}

/* Calls for each head's part of a token: where it lies with the strides, and without gaps. */
static void for_each_part(const struct page_values *values, uint8_t *spread,
                          void (*visit)(uint8_t *spread, uint8_t *dense, size_t bytes),
                          uint8_t *dense) {
    struct page_strides strides = layout_of(values).strides;
    enum page_dtype dtype = values->shape.dtype;
    size_t bytes = page_row_bytes(dtype, values->shape.head_dim);
    for (size_t t = 0; t < values->shape.tokens; t++)
        for (size_t h = 0; h < values->shape.heads; h++, dense += bytes)
            visit(spread + page_row_bytes(dtype, t * strides.token + h * strides.head), dense,
                  bytes);
}

static void spread_part(uint8_t *spread, uint8_t *dense, size_t bytes) {
    memcpy(spread, dense, bytes);
}

/* Takes a part out and leaves untouched bytes in its place. */
static void take_part(uint8_t *spread, uint8_t *dense, size_t bytes) {
    memcpy(dense, spread, bytes);
    memset(spread, UNTOUCHED, bytes);
}

static bool is_untouched(const uint8_t *bytes, size_t count) {
    return count == 0 || (bytes[0] == UNTOUCHED && memcmp(bytes, bytes + 1, count - 1) == 0);
}

/* ---- one attempt ---- */

struct attempt {
    struct page_writer *writer;
    const struct page_values *values;
    size_t dense_bytes, count;
    uint8_t *page;
    size_t length;
    struct page_info info;
    uint8_t *dense; /* what comes back, in the second page's room: no other needs it then */
};

static void *workspace_of(const struct attempt *attempt) {
    return guarded_place(&attempt->writer->workspace, PAGE_WORKSPACE_BYTES,
                         attempt->values->at_end);
}

static struct page_source source_of(const struct page_values *values, const void *from,
                                    struct page_strides strides) {
    return (struct page_source){.shape = values->shape,
                                .part = values->part,
                                .level = values->level,
                                .snr_db = values->snr_db,
                                .sink_tokens = values->sink_tokens,
                                .values = from,
                                .strides = strides,
                                .layer = values->layer,
                                .layers = values->layers};
}

/* Gaps are full of what would be NaN in every dtype: who reads them shows it. */
static void encode(struct attempt *attempt) {
    const struct page_values *values = attempt->values;
    struct layout layout = layout_of(values);
    uint8_t *from = place(&attempt->writer->source, values, layout.bytes);
    memset(from, 0xff, layout.bytes);
    for_each_part(values, from, spread_part, (uint8_t *)(uintptr_t)values->values);
    size_t bound = page_bound_bytes(&values->shape);
    attempt->page = place(&attempt->writer->page, values, bound);
    struct page_source source = source_of(values, from, layout.strides);
    must(page_encode(&source, workspace_of(attempt), attempt->page, bound, &attempt->length,
                     &attempt->info) == PAGE_OK,
         "every shape within the limits is encoded");
    must(attempt->length <= bound, "a page is within its bound");
}

static void check_same_without_gaps(const struct attempt *attempt) {
    const struct page_values *values = attempt->values;
    size_t bound = page_bound_bytes(&values->shape), written;
    struct page_strides plain = {.token = (size_t)values->shape.heads * values->shape.head_dim,
                                 .head = values->shape.head_dim};
    struct page_source source = source_of(values, values->values, plain);
    uint8_t *again = guarded_place(&attempt->writer->again, bound, !values->at_end);
    must(page_encode(&source, workspace_of(attempt), again, bound, &written, NULL) == PAGE_OK &&
             written == attempt->length && memcmp(again, attempt->page, written) == 0,
         "the same values in another place make the same page");
}

static void check_info(const struct attempt *attempt) {
    struct page_info peeked;
    must(page_peek(attempt->page, attempt->length, &peeked) == PAGE_OK, "a page is a page");
    const struct page_info *told = &attempt->info;
    must(peeked.shape.tokens == attempt->values->shape.tokens &&
             peeked.shape.heads == attempt->values->shape.heads &&
             peeked.shape.head_dim == attempt->values->shape.head_dim &&
             peeked.shape.dtype == attempt->values->shape.dtype &&
             peeked.part == attempt->values->part,
         "a page tells what it is of");
    must(peeked.level == told->level && peeked.sink_tokens == told->sink_tokens &&
             peeked.exact_tokens == told->exact_tokens && peeked.sink_bytes == told->sink_bytes &&
             peeked.estimated == told->estimated,
         "peeking tells what encoding told");
    must(told->level <= attempt->values->level, "a page is no coarser than asked");
    must(told->level == PAGE_EXACT || told->sink_tokens == attempt->values->sink_tokens,
         "the sinks asked for are exact");
    must(!told->estimated, "a page coded from values has a loss that was measured");
}

static void decode(struct attempt *attempt, bool streaming) {
    const struct page_values *values = attempt->values;
    struct layout layout = layout_of(values);
    const struct guarded_room *room = &attempt->writer->target;
    uint8_t *to = place(room, values, layout.bytes);
    size_t margin = values->at_end ? 0 : 64, before = values->at_end ? 64 : 0;
    uint8_t *first = to - (before < (size_t)(to - room->first) ? before : 0);
    memset(first, UNTOUCHED, (size_t)(to - first) + layout.bytes + margin);
    struct page_target target = {.tokens = values->shape.tokens,
                                 .dtype = values->shape.dtype,
                                 .values = to,
                                 .strides = layout.strides,
                                 .streaming = streaming};
    must(page_decode(attempt->page, attempt->length, &target, workspace_of(attempt)) == PAGE_OK,
         "what was encoded is decoded");
    for_each_part(values, to, take_part, attempt->dense);
    must(is_untouched(first, (size_t)(to - first) + layout.bytes + margin),
         "decoding leaves alone what is between its values");
}

/* Where the values that were encoded have been. */
static const float *decode_numbers(const struct attempt *attempt) {
    const struct page_shape *shape = &attempt->values->shape;
    struct page_target target = {
        .tokens = shape->tokens,
        .dtype = PAGE_F32,
        .values = attempt->writer->source.first,
        .strides = {(size_t)shape->heads * shape->head_dim, shape->head_dim}};
    must(page_decode(attempt->page, attempt->length, &target, workspace_of(attempt)) == PAGE_OK,
         "what was encoded is decoded to float32");
    return target.values;
}

static float largest_of(const float *values, size_t count) {
    float largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmaxf(largest, values[i]);
    return largest;
}

/* Of a page that is not exact. */
static double largest_step(const struct attempt *attempt) {
    struct page_header header;
    must(page_header_read(attempt->page, attempt->length, &header) == PAGE_OK, "there is a header");
    size_t front = page_exact_end(&header), channels = page_header_channels(&header);
    struct payload payload = {attempt->page + front, attempt->length - front};
    struct workspace workspace = page_workspace(workspace_of(attempt));
    if (header.coding == CODING_FAST8) {
        float *scales = workspace_take(&workspace, channels * sizeof *scales);
        page_convert_row(PAGE_BF16, payload.bytes, PAGE_F32, scales, channels);
        return (double)largest_of(scales, channels);
    }
    struct quantise_reader *reader = workspace_take(&workspace, sizeof *reader);
    must(quantise_open(reader, &header, payload, &workspace), "there are steps");
    return (double)largest_of(reader->page.step, reader->page.tokens);
}

static bool is_close(double told, double measured, double tolerance) {
    return fabs(told - measured) <= tolerance * measured + 1e-30;
}

/* Of each value's error, told to 1/128 step, and as floats near it allow. */
static bool is_told(const struct attempt *attempt, double error, double largest) {
    double each = largest_step(attempt) / 128 + largest * 0x1p-23;
    return fabs(sqrt(attempt->info.loss.error) - sqrt(error)) <=
           0.002 * sqrt(error) + sqrt((double)attempt->count) * each;
}

/* The sums are of float32: what that cannot hold is not compared. */
static void check_loss(const struct attempt *attempt) {
    double error = 0, energy = 0, largest = 0;
    enum page_dtype dtype = attempt->values->shape.dtype;
    const float *numbers = decode_numbers(attempt);
    for (size_t i = 0; i < attempt->count; i++) {
        double x = value_number(dtype, attempt->values->values, i), y = (double)numbers[i];
        must(isfinite(y) || !isfinite(x), "finite values stay finite");
        error += (x - y) * (x - y);
        energy += x * x;
        largest = fmax(largest, fabs(x));
    }
    const struct page_loss *told = &attempt->info.loss;
    must(isfinite(told->error) && isfinite(told->energy), "the loss is a number");
    if (!isfinite(energy) || largest > 0x1p50 || energy < 0x1p-90)
        return;
    must(is_close(told->energy, energy, 1e-4), "the energy told is the values'");
    if (attempt->info.level != PAGE_EXACT && error > 0x1p-90)
        must(is_told(attempt, error, largest), "the error told is what decoding leaves");
}

static void check_snr(const struct attempt *attempt) {
    const struct page_loss *loss = &attempt->info.loss;
    if (attempt->values->snr_db > 0 && loss->error > 0)
        must(10 * log10(loss->energy / loss->error) >= attempt->values->snr_db - 1e-3,
             "a page has the decibels asked for");
}

uint64_t page_writer_try(struct page_writer *writer, const struct page_values *values) {
    struct attempt attempt = {
        .writer = writer,
        .values = values,
        .count = (size_t)values->shape.tokens * values->shape.heads * values->shape.head_dim,
    };
    attempt.dense_bytes = page_row_bytes(values->shape.dtype, attempt.count);
    attempt.dense = writer->again.first;
    encode(&attempt);
    check_same_without_gaps(&attempt);
    check_info(&attempt);
    uint64_t digest = XXH3_64bits(attempt.page, attempt.length);
    for (int streaming = 0; streaming < 2; streaming++) {
        decode(&attempt, streaming);
        digest = XXH3_64bits_withSeed(attempt.dense, attempt.dense_bytes, digest);
    }
    if (attempt.info.level == PAGE_EXACT)
        must(memcmp(attempt.dense, values->values, attempt.dense_bytes) == 0, "exact is exact");
    if (values->shape.dtype <= PAGE_F32)
        check_loss(&attempt);
    check_snr(&attempt);
    return digest;
}
