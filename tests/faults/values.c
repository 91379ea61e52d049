#include "tests/faults/values.h"

#include <string.h>

#include "proto/page/compact.h"
#include "proto/page/convert.h"

uint64_t values_mix(uint64_t number) {
    number += 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

static uint64_t mix_two(uint64_t a, uint64_t b) {
    return values_mix(a ^ values_mix(b));
}

/* Between -4 and 4, nearly normal: a sum of uniforms. */
static float nearly_normal(uint64_t random) {
    int64_t sum = (int64_t)(random & 0xffff) + (int64_t)(random >> 16 & 0xffff) -
                  (int64_t)(random >> 32 & 0xffff) - (int64_t)(random >> 48);
    return (float)sum / 32768;
}

static void make_numbers(uint64_t stamp, uint64_t place, size_t count, float *numbers) {
    for (size_t i = 0; i < count; i++) {
        float mean = nearly_normal(mix_two(place, i));
        numbers[i] = 2 * mean + nearly_normal(mix_two(stamp, place * VALUES_ROW_MAX + i));
    }
}

static void make_bits(uint64_t stamp, uint64_t place, size_t bytes, uint8_t *row) {
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)mix_two(stamp, place * VALUES_ROW_MAX + i);
}

void values_make(const struct geometry *geometry, uint64_t stamp, uint32_t layer,
                 enum page_part part, void *row) {
    size_t count = (size_t)geometry->heads * geometry_head_dim(geometry, part);
    uint64_t place = (uint64_t)layer * GEOMETRY_PARTS + part;
    unsigned kind = stamp & VALUES_WILD_BIT ? (unsigned)(values_mix(stamp) % 8) : 2;
    float numbers[VALUES_ROW_MAX];

    if (kind == 0) {
        make_bits(stamp, place, geometry_part_bytes(geometry, part, 1), row);
        return;
    }
    make_numbers(stamp, place, count, numbers);
    if (kind == 1)
        memset(numbers, 0, count * sizeof *numbers);
    if (page_is_compact(geometry->dtype))
        page_compact_store(geometry->dtype, numbers, count, row);
    else
        page_convert_row(PAGE_F32, numbers, geometry->dtype, row, count);
}
