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

struct rans_class rans_drop_class(unsigned k) {
    return (struct rans_class){(uint8_t)(PAGE_DROP_TABLE + k), 0};
}

unsigned rans_class_of_magnitude(uint64_t sum, size_t count) {
    unsigned k = 0;
    for (unsigned half = PAGE_CLASSES / 2; half > 0; half /= 2)
        if (256 * sum > (uint64_t)page_magnitude_limits[k + half - 1] * count)
            k += half;
    return k;
}

static uint64_t row_cost(unsigned k, const int16_t *values, size_t count) {
    struct rans_class class = rans_level_class(k);
    const uint8_t *frequency = page_tables[class.table].frequency;
    uint64_t cost = (uint64_t)count * class.low_bits * 256;
    for (size_t i = 0; i < count; i++) {
        unsigned symbol = (unsigned)((values[i] >> class.low_bits) + RANS_SYMBOL_ZERO);
        bool coded = symbol < PAGE_SYMBOLS && symbol != RANS_ESCAPE && frequency[symbol] != 0;
        cost += coded ? page_code_length[frequency[symbol]]
                      : page_code_length[frequency[RANS_ESCAPE]] + 8 * 256;
    }
    return cost;
}

unsigned rans_choose_class(const int16_t *values, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)(values[i] < 0 ? -values[i] : values[i]);
    unsigned guess = rans_class_of_magnitude(sum, count), best = guess;
    unsigned last = guess + 1 < PAGE_CLASSES ? guess + 1 : guess;
    uint64_t best_cost = UINT64_MAX;
    for (unsigned k = guess > 5 ? guess - 5 : 0; k <= last; k++) {
        uint64_t cost = row_cost(k, values, count);
        if (cost < best_cost)
            best = k, best_cost = cost;
    }
    return best;
}

size_t rans_plane_bytes(struct rans_class class, size_t count) {
    return class.low_bits * ((count + 7) / 8);
}

/* Ranks are dealt to a symbol's slots in the order of the slots. */
static void build_decode_model(const struct page_table *table, struct rans_decode_model *model) {
    uint16_t next[PAGE_SYMBOLS]; /* the step of the symbol's next slot */
    for (unsigned symbol = 0; symbol < PAGE_SYMBOLS; symbol++)
        next[symbol] = (uint16_t)(table->frequency[symbol] << 8);
    for (unsigned bucket = 0; bucket < PAGE_SYMBOLS; bucket++) {
        unsigned own = table->own[bucket], other = table->other[bucket];
        uint16_t *step = model->step + bucket * PAGE_BUCKET_SLOTS;
        uint8_t *symbol = model->symbol + bucket * PAGE_BUCKET_SLOTS;
        unsigned first = next[bucket], second = next[other] - own;
        for (unsigned i = 0; i < PAGE_BUCKET_SLOTS; i++) {
            step[i] = (uint16_t)((i < own ? first : second) + i);
            symbol[i] = (uint8_t)(i < own ? bucket : other);
        }
        next[bucket] = (uint16_t)(next[bucket] + own);
        next[other] = (uint16_t)(next[other] + PAGE_BUCKET_SLOTS - own);
    }
}

static void build_encode_model(const struct page_table *table, struct rans_encode_model *model) {
    unsigned next[PAGE_SYMBOLS], total = 0;
    model->low = 1;
    model->high = 0;
    for (int symbol = 0; symbol < PAGE_SYMBOLS; symbol++) {
        unsigned frequency = table->frequency[symbol];
        next[symbol] = total;
        model->start[symbol] = (uint16_t)(frequency << 8 | (total & 255));
        model->reciprocal[symbol] = (uint16_t)(frequency > 1 ? 65536 / frequency : 65535);
        total += frequency;
        if (symbol == RANS_ESCAPE || frequency == 0)
            continue;
        if (model->low > model->high)
            model->low = (int16_t)(symbol - RANS_SYMBOL_ZERO);
        model->high = (int16_t)(symbol - RANS_SYMBOL_ZERO);
    }
    for (unsigned slot = 0; slot < 256; slot++) {
        unsigned bucket = slot / PAGE_BUCKET_SLOTS;
        bool own = slot % PAGE_BUCKET_SLOTS < table->own[bucket];
        unsigned symbol = own ? bucket : table->other[bucket];
        model->slot[next[symbol]++] = (uint8_t)slot;
    }
}

bool rans_decoder_init(struct rans_decoder *decoder, const uint8_t *stream, size_t bytes,
                       bool wide_escapes, struct rans_decode_model *models) {
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
    decoder->wide_escapes = wide_escapes;
    decoder->built = 0;
    decoder->models = models;
    return true;
}

bool rans_decode_row(struct rans_decoder *decoder, struct rans_class class, int16_t *values,
                     size_t count) {
    size_t plane_bytes = rans_plane_bytes(class, count);
    if ((size_t)(decoder->plane_end - decoder->plane) < plane_bytes)
        return false;
    struct rans_decode_model *model = &decoder->models[class.table];
    if (!(decoder->built >> class.table & 1)) {
        build_decode_model(&page_tables[class.table], model);
        decoder->built |= (uint64_t)1 << class.table;
    }
    bool whole = page_kernels()->rans_decode(decoder, model, class.low_bits, values, count);
    decoder->plane += plane_bytes;
    return whole;
}

bool rans_decoder_done(const struct rans_decoder *decoder) {
    for (int i = 0; i < RANS_LANES; i++)
        if (decoder->state[i] != RANS_STATE_MIN)
            return false;
    return decoder->refill == decoder->refill_end && decoder->plane == decoder->plane_end &&
           decoder->escape == decoder->escape_end;
}

void rans_encoder_init(struct rans_encoder *encoder, uint8_t *memory, size_t bytes,
                       size_t plane_bytes, bool wide_escapes, struct rans_encode_model *models) {
    *encoder = (struct rans_encoder){.wide_escapes = wide_escapes, .models = models};
    for (int i = 0; i < RANS_LANES; i++)
        encoder->state[i] = RANS_STATE_MIN;
    encoder->full = plane_bytes > bytes;
    if (encoder->full)
        plane_bytes = 0;
    encoder->begin = memory;
    encoder->plane = encoder->plane_end = memory + plane_bytes;
    encoder->escape = encoder->escape_end = encoder->plane_end + (bytes - plane_bytes) / 2;
    encoder->refill = encoder->end = memory + bytes;
}

void rans_encode_row(struct rans_encoder *encoder, struct rans_class class, const int16_t *values,
                     size_t count) {
    if (encoder->full || encoder->escape_too_wide)
        return;
    struct rans_encode_model *model = &encoder->models[class.table];
    if (!(encoder->built >> class.table & 1)) {
        build_encode_model(&page_tables[class.table], model);
        encoder->built |= (uint64_t)1 << class.table;
    }
    encoder->plane -= rans_plane_bytes(class, count);
    page_kernels()->rans_encode(encoder, model, class.low_bits, values, count);
}

size_t rans_encoder_bytes(const struct rans_encoder *encoder) {
    return RANS_STREAM_HEADER_BYTES + (size_t)(encoder->end - encoder->refill) +
           (size_t)(encoder->plane_end - encoder->plane) +
           (size_t)(encoder->escape_end - encoder->escape);
}

void rans_encoder_write(const struct rans_encoder *encoder, uint8_t *out) {
    size_t refill = (size_t)(encoder->end - encoder->refill);
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
