#include "proto/page/rans.h"
#include "proto/page/header.h"
#include "proto/page/kernels.h"

#include <string.h>

struct rans_class rans_level_class(unsigned k) {
    enum { LAST_OCTAVE = PAGE_TABLE_CLASSES - 4 };
    if (k < PAGE_TABLE_CLASSES)
        return (struct rans_class){(uint8_t)k, page_low_bits[k]};
    unsigned table = LAST_OCTAVE + k % 4, octaves = (k - LAST_OCTAVE) / 4;
    return (struct rans_class){(uint8_t)table, (uint8_t)(page_low_bits[table] + octaves)};
}

unsigned rans_class_of_magnitude(uint64_t sum, size_t count) {
    unsigned k = 0;
    for (unsigned half = PAGE_CLASSES / 2; half > 0; half /= 2)
        if (256 * sum > (uint64_t)page_magnitude_limits[k + half - 1] * count)
            k += half;
    return k;
}

/* 256 * sum > limit * count, in whole sums. */
static uint32_t limit_of_sum(unsigned k, size_t count) {
    if (k >= PAGE_CLASSES - 1)
        return UINT32_MAX;
    uint64_t limit = (uint64_t)page_magnitude_limits[k] * count / 256;
    return limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
}

void rans_classes_init(struct rans_classes *classes, size_t count) {
    for (unsigned k = 0; k < PAGE_CLASSES + CLASSES_PER_OCTAVE; k++)
        classes->limit[k] = limit_of_sum(k, count);
    for (unsigned k = 0; k < PAGE_CLASSES; k++)
        classes->level[k] = rans_level_class(k);
    for (unsigned bits = 0, k = 0; bits <= 32; bits++) {
        uint64_t least = (uint64_t)1 << bits >> 1;
        while (classes->limit[k] < least && k < PAGE_CLASSES - 1)
            k++;
        classes->first[bits] = (uint8_t)k;
    }
}

enum { SIDE_ESCAPE_COST = 16 * 256 }; /* of the escaped value itself, in 1/256 bit */

static uint64_t side_row_cost(unsigned k, const int16_t *values, size_t count) {
    struct rans_class class = rans_level_class(k);
    const uint8_t *frequency = page_tables[class.table].symbol_frequency;
    uint16_t cost[PAGE_SYMBOLS];
    for (int symbol = 0; symbol < PAGE_SYMBOLS; symbol++) {
        bool coded = symbol != RANS_ESCAPE && frequency[symbol] != 0;
        cost[symbol] =
            coded ? page_code_length[frequency[symbol]]
                  : (uint16_t)(page_code_length[frequency[RANS_ESCAPE]] + SIDE_ESCAPE_COST);
    }
    return (uint64_t)count * class.low_bits * 256 +
           page_kernels()->row_cost(values, count, class.low_bits, cost);
}

unsigned rans_choose_class(const int16_t *values, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)(values[i] < 0 ? -values[i] : values[i]);
    unsigned guess = rans_class_of_magnitude(sum, count), best = guess;
    unsigned last = guess + 1 < PAGE_CLASSES ? guess + 1 : guess;
    uint64_t best_cost = UINT64_MAX;
    for (unsigned k = guess > 5 ? guess - 5 : 0; k <= last; k++) {
        uint64_t cost = side_row_cost(k, values, count);
        if (cost < best_cost)
            best = k, best_cost = cost;
    }
    return best;
}

/* ---- tables as kernels like them ---- */

/* The run of slots that a slot belongs to. */
static unsigned run_of_slot(const struct page_table *table, unsigned slot) {
    unsigned bucket = slot / PAGE_BUCKET_SLOTS;
    return slot % PAGE_BUCKET_SLOTS < table->own[bucket] ? bucket : bucket + (unsigned)PAGE_SYMBOLS;
}

static unsigned rank_of_slot(const struct page_table *table, unsigned slot) {
    return (slot + table->offset[run_of_slot(table, slot)]) & 255;
}

const struct rans_decode_model *rans_build_decode_model(struct rans_decoder *decoder,
                                                        unsigned table) {
    const struct page_table *from = &page_tables[table];
    struct rans_decode_model *model = &decoder->models[table];
    for (unsigned slot = 0; slot < 256; slot++) {
        unsigned run = run_of_slot(from, slot);
        model->slot[slot] = (uint32_t)from->symbol[run] << 16 |
                            (uint32_t)from->frequency[run] << 8 | rank_of_slot(from, slot);
    }
    decoder->built[table / 64] |= (uint64_t)1 << table % 64;
    return model;
}

/* ---- streams ---- */

bool rans_decoder_init(struct rans_decoder *decoder, const uint8_t *stream, size_t bytes,
                       struct rans_decode_model *models) {
    if (bytes < RANS_STREAM_HEADER_BYTES)
        return false;
    for (int i = 0; i < RANS_LANES; i++) {
        decoder->state[i] = get_u16(stream + 2 * i);
        if (decoder->state[i] < RANS_STATE_MIN)
            return false;
    }
    size_t refill = get_u32(stream + 2 * RANS_LANES), escape = get_u32(stream + 2 * RANS_LANES + 4);
    size_t body = bytes - RANS_STREAM_HEADER_BYTES;
    if (refill > body || escape > body - refill)
        return false;
    decoder->refill = stream + RANS_STREAM_HEADER_BYTES;
    decoder->refill_end = decoder->plane = decoder->refill + refill;
    decoder->escape_end = stream + bytes;
    decoder->plane_end = decoder->escape = decoder->escape_end - escape;
    decoder->models = models;
    memset(decoder->built, 0, sizeof decoder->built);
    return true;
}

bool rans_decode_side_row(struct rans_decoder *decoder, struct rans_class class, int16_t *values,
                          size_t count) {
    struct rans_decode_job job = {
        .decoder = decoder, .classes = &class, .rows = 1, .count = count, .values = values};
    return page_kernels()->rans_decode16(&job, 1);
}

bool rans_decoder_done(const struct rans_decoder *decoder) {
    for (int i = 0; i < RANS_LANES; i++)
        if (decoder->state[i] != RANS_STATE_MIN)
            return false;
    return decoder->refill == decoder->refill_end && decoder->plane == decoder->plane_end &&
           decoder->escape == decoder->escape_end;
}

struct sections {
    size_t planes, escapes, refill;
};

/* A section has room for all that may come into it, or for the whole stream, and a tile of the
 * widest rows more. */
static size_t section_bytes(const struct rans_bounds *bounds, size_t most) {
    size_t tile = 2 * PAGE_BLOCK * RANS_ROW_VALUES;
    size_t bytes = most < bounds->bytes ? most : bounds->bytes;
    return ((bytes + 63) & ~(size_t)63) + tile + RANS_SLACK_BYTES;
}

static struct sections sections_of(const struct rans_bounds *bounds) {
    size_t values = bounds->rows * bounds->count, side = bounds->side_values;
    size_t row_planes = bounds->wide ? RANS_WIDE_BITS : RANS_NARROW_BITS;
    row_planes *= rans_plane_bytes(bounds->count);
    return (struct sections){
        .planes = section_bytes(bounds, bounds->rows * row_planes + 2 * side + RANS_LANES),
        .escapes = section_bytes(bounds, values * (bounds->wide ? 2 : 1) + 2 * side),
        .refill = section_bytes(bounds, values + side),
    };
}

size_t rans_encoder_memory_bytes(const struct rans_bounds *bounds) {
    struct sections sections = sections_of(bounds);
    return sections.planes + sections.escapes + sections.refill;
}

void rans_encoder_init(struct rans_encoder *encoder, uint8_t *memory,
                       const struct rans_bounds *bounds) {
    struct sections sections = sections_of(bounds);
    for (int i = 0; i < RANS_LANES; i++)
        encoder->state[i] = RANS_STATE_MIN;
    encoder->begin = memory;
    encoder->plane = encoder->plane_end = encoder->begin + sections.planes;
    encoder->escape = encoder->escape_end = encoder->plane_end + sections.escapes;
    encoder->refill = encoder->refill_end = encoder->escape_end + sections.refill;
}

bool rans_encoder_has_room(const struct rans_encoder *encoder, const struct rans_class *classes,
                           size_t rows, size_t count, bool wide) {
    size_t values = rows * count, planes = 0;
    for (size_t row = 0; row < rows; row++)
        planes += classes[row].low_bits * rans_plane_bytes(count);
    return (size_t)(encoder->plane - encoder->begin) >= planes + RANS_SLACK_BYTES &&
           (size_t)(encoder->escape - encoder->plane_end) >=
               values * (wide ? 2 : 1) + RANS_SLACK_BYTES &&
           (size_t)(encoder->refill - encoder->escape_end) >= values + RANS_SLACK_BYTES;
}

bool rans_encode_side_row(struct rans_encoder *encoder, struct rans_class class,
                          const int16_t *values, size_t count) {
    struct rans_encode_job job = {
        .encoder = encoder, .classes = &class, .rows = 1, .count = count, .values = values};
    if (!rans_encoder_has_room(encoder, &class, 1, count, true))
        return false;
    page_kernels()->rans_encode16(&job, 1);
    return true;
}

size_t rans_encoder_bytes(const struct rans_encoder *encoder) {
    return RANS_STREAM_HEADER_BYTES + (size_t)(encoder->refill_end - encoder->refill) +
           (size_t)(encoder->plane_end - encoder->plane) +
           (size_t)(encoder->escape_end - encoder->escape);
}

void rans_encoder_write(const struct rans_encoder *encoder, uint8_t *out) {
    size_t refill = (size_t)(encoder->refill_end - encoder->refill);
    size_t plane = (size_t)(encoder->plane_end - encoder->plane);
    size_t escape = (size_t)(encoder->escape_end - encoder->escape);
    for (int i = 0; i < RANS_LANES; i++)
        put_u16(out + 2 * i, encoder->state[i]);
    put_u32(out + 2 * RANS_LANES, (uint32_t)refill);
    put_u32(out + 2 * RANS_LANES + 4, (uint32_t)escape);
    out += RANS_STREAM_HEADER_BYTES;
    memcpy(out, encoder->refill, refill);
    memcpy(out + refill, encoder->plane, plane);
    memcpy(out + refill + plane, encoder->escape, escape);
}
