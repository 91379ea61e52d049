/* Decoding rows of streams while tiles decoded before become values. */
#include "proto/page/avx512_rows.h"

SPECIALISED bool overlap(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                         size_t count, enum page_dtype dtype, bool partial, bool phased) {
    PAGE_SCRATCH struct turned turned[2];
    struct meanwhile meanwhile = {
        .tiles = tiles, .count = count, .dtype = dtype, .phased = phased, .turned = turned};
    meanwhile_begin(&meanwhile);
    if (!decode_jobs8(jobs, count, partial, &meanwhile))
        return false;
    meanwhile_end(&meanwhile);
    return true;
}

SPECIALISED bool overlap_any(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                             size_t count, enum page_dtype dtype) {
    bool partial = false, phased = false;
    for (size_t i = 0; i < count; i++) {
        partial |= jobs[i].count != RANS_ROW_VALUES;
        phased |= tiles[i].phase != 0;
    }
    if (phased)
        return overlap(jobs, tiles, count, dtype, true, true);
    return partial ? overlap(jobs, tiles, count, dtype, true, false)
                   : overlap(jobs, tiles, count, dtype, false, false);
}

/* Whether these may go through decode_jobs8(), and no value is beyond the dtype's range. */
static bool may_overlap(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                        size_t count, enum page_dtype dtype) {
    for (size_t i = 0; i < count; i++) {
        const struct page_target_rows *out = &tiles[i].out;
        if (jobs[i].count <= RANS_LANES ||
            may_leave_range(dtype, largest_magnitude(tiles[i].mean, PAGE_BLOCK),
                            largest_magnitude(tiles[i].steps + out->first, out->last - out->first),
                            129))
            return false;
    }
    return true;
}

#define OVERLAP(name, dtype)                                                                       \
    bool page_overlap_##name##_avx512(const struct rans_decode_job *jobs,                          \
                                      const struct page_tile *tiles, size_t count) {               \
        if (may_overlap(jobs, tiles, count, dtype))                                                \
            return count == 1 ? overlap_any(jobs, tiles, 1, dtype)                                 \
                              : overlap_any(jobs, tiles, 2, dtype);                                \
        for (size_t i = 0; i < count; i++)                                                         \
            page_dequantise8_##name##_avx512(tiles[i].q, tiles[i].mean, tiles[i].steps,            \
                                             tiles[i].phase, &tiles[i].out);                       \
        return page_rans_decode8_avx512(jobs, count);                                              \
    }

OVERLAP(f16, PAGE_F16)
OVERLAP(bf16, PAGE_BF16)
OVERLAP(f32, PAGE_F32)
