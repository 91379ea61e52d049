/* float16 to float32. */
#include "proto/page/avx2_numbers.h"

void page_widen_avx2(const void *halves, void *floats, size_t count) {
    const uint8_t *in = halves;
    uint8_t *out = floats;
    size_t i = 0;
    for (; i + EIGHT <= count; i += EIGHT)
        _mm256_storeu_ps((float *)(void *)(out + 4 * i), load8(PAGE_F16, in + 2 * i));
    if (i == count)
        return;
    float last[EIGHT];
    _mm256_storeu_ps(last, load_part(PAGE_F16, in + 2 * i, count - i));
    memcpy(out + 4 * i, last, (count - i) * sizeof *last);
}
