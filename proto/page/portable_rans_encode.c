/* The rANS encoder in plain C, without a branch on the data but for escapes. */
#include "proto/page/kernels.h"
#include "proto/page/portable.h"
#include "proto/page/workspace.h"

SPECIALISED int16_t value_at(bool wide, const void *values, size_t i) {
    return wide ? ((const int16_t *)values)[i] : ((const int8_t *)values)[i];
}

/* A class's table as this encoder looks it up; by symbol, start << 8 | frequency. */
struct model {
    const struct page_encode_table *table;
    uint16_t symbol[PAGE_SYMBOLS];
};

static void set_model(struct model *model, unsigned table) {
    const struct page_table *from = &page_tables[table];
    model->table = &page_encode_tables[table];
    for (size_t i = 0; i < PAGE_SYMBOLS; i++)
        model->symbol[i] = (uint16_t)(from->start[i] << 8 | from->symbol_frequency[i]);
}

/* Last symbol first, towards lower addresses; writes at most `count` bytes and one below. In steps
 * over all lanes, so that only table look-ups and the refill stay scalar. */
SPECIALISED uint8_t *encode_symbols(uint16_t *restrict state, const struct model *restrict model,
                                    const uint8_t *restrict symbols, size_t count,
                                    uint8_t *restrict refill) {
    PAGE_SCRATCH uint16_t symbol[RANS_LANES], reciprocal[RANS_LANES], rank[RANS_LANES];
    PAGE_SCRATCH uint8_t byte[RANS_LANES], full[RANS_LANES];
    for (size_t lane = 0; lane < count; lane++) {
        symbol[lane] = model->symbol[symbols[lane]];
        reciprocal[lane] = model->table->reciprocal[symbols[lane]];
    }
    for (size_t lane = 0; lane < count; lane++) {
        uint16_t x = state[lane], frequency = symbol[lane] & 255;
        uint16_t emit = x >> 8 >= frequency ? 0xffff : 0;
        byte[lane] = (uint8_t)x;
        full[lane] = (uint8_t)(emit & 1);
        x = (uint16_t)((x >> 8 & emit) | (x & ~emit));
        uint16_t quotient = (uint16_t)((uint32_t)x * reciprocal[lane] >> 16);
        uint16_t rest = (uint16_t)(x - quotient * frequency);
        uint16_t over = rest >= frequency ? 0xffff : 0; /* the reciprocal is rounded down */
        rest = (uint16_t)(rest - (frequency & over));
        rank[lane] = (uint16_t)(rest + (symbol[lane] >> 8)) & 255;
        quotient = (uint16_t)(quotient - over);
        state[lane] = (uint16_t)(quotient << 8);
    }
    for (size_t lane = 0; lane < count; lane++)
        state[lane] |= model->table->slot[rank[lane]];
    for (size_t lane = count; lane-- > 0;) {
        refill[-1] = byte[lane];
        refill -= full[lane];
    }
    return refill;
}

SPECIALISED void push_escapes(bool wide, struct rans_encoder *encoder, const uint8_t *symbols,
                              const void *values, size_t count) {
    for (size_t i = count; i-- > 0;) {
        if (symbols[i] != RANS_ESCAPE)
            continue;
        int16_t value = value_at(wide, values, i);
        encoder->escape -= wide ? 2 : 1;
        encoder->escape[0] = (uint8_t)value;
        if (wide)
            encoder->escape[1] = (uint8_t)(value >> 8);
    }
}

/* Bit `plane` of eight bytes, the first in the lowest place. */
static inline uint8_t gather_bits(uint64_t bytes, unsigned plane) {
    uint64_t bits = bytes >> plane & 0x0101010101010101u;
    return (uint8_t)(bits * 0x0102040810204080u >> 56);
}

SPECIALISED void write_planes(bool wide, const void *values, size_t count, uint8_t *planes,
                              size_t plane_stride, unsigned low_bits) {
    for (size_t i = 0; i < count; i += 8, planes++) {
        uint64_t low = 0, high = 0;
        for (size_t j = 0; j < 8 && i + j < count; j++) {
            uint16_t value = (uint16_t)value_at(wide, values, i + j);
            low |= (uint64_t)(value & 255) << 8 * j;
            high |= (uint64_t)(value >> 8) << 8 * j;
        }
        for (unsigned plane = 0; plane < low_bits; plane++)
            planes[plane * plane_stride] =
                plane < 8 ? gather_bits(low, plane) : gather_bits(high, plane - 8);
    }
}

SPECIALISED void encode_group(bool wide, struct rans_encoder *encoder, const struct model *model,
                              unsigned low_bits, const void *values, size_t count) {
    PAGE_SCRATCH uint8_t symbols[RANS_LANES];
    int16_t low = model->table->low, high = model->table->high, outside = 0;
    for (size_t i = 0; i < count; i++) {
        int16_t value = (int16_t)(value_at(wide, values, i) >> low_bits);
        int16_t escapes = ((value < low) | (value > high)) ? -1 : 0;
        symbols[i] = (uint8_t)((value + RANS_SYMBOL_ZERO) & ~escapes);
        outside |= escapes;
    }
    if (__builtin_expect(outside, 0))
        push_escapes(wide, encoder, symbols, values, count);
    encoder->refill = encode_symbols(encoder->state, model, symbols, count, encoder->refill);
}

SPECIALISED void encode_row(bool wide, struct rans_encoder *encoder, struct rans_class class,
                            size_t count, const uint8_t *values) {
    PAGE_SCRATCH struct model model;
    set_model(&model, class.table);
    size_t value_bytes = wide ? 2 : 1, whole = count / RANS_LANES * RANS_LANES;
    size_t plane_bytes = rans_plane_bytes(count);
    encoder->plane -= class.low_bits * plane_bytes;
    if (class.low_bits > 0)
        write_planes(wide, values, count, encoder->plane, plane_bytes, class.low_bits);
    if (whole < count)
        encode_group(wide, encoder, &model, class.low_bits, values + whole * value_bytes,
                     count - whole);
    for (size_t i = whole; i > 0; i -= RANS_LANES)
        encode_group(wide, encoder, &model, class.low_bits, values + (i - RANS_LANES) * value_bytes,
                     RANS_LANES);
}

SPECIALISED void encode_jobs(bool wide, const struct rans_encode_job *jobs, size_t count) {
    size_t row_bytes = RANS_ROW_VALUES * (wide ? 2 : 1);
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++)
        for (size_t row = job->rows; row-- > 0;)
            encode_row(wide, job->encoder, job->classes[row], job->count,
                       (const uint8_t *)job->values + row * row_bytes);
}

void PAGE_OF_TARGET(rans_encode8_)(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(false, jobs, count);
}

void PAGE_OF_TARGET(rans_encode16_)(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(true, jobs, count);
}

uint32_t PAGE_OF_TARGET(row_cost_)(const int16_t *values, size_t count, unsigned low_bits,
                                   const uint16_t cost[PAGE_SYMBOLS]) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned symbol = (unsigned)((values[i] >> low_bits) + RANS_SYMBOL_ZERO);
        sum += cost[symbol < PAGE_SYMBOLS ? symbol : RANS_ESCAPE];
    }
    return sum;
}
