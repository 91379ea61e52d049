/* float16 to float32. */
#include "proto/page/avx512_values.h"

void page_widen_avx512(const void *halves, void *floats, size_t count) {
    const uint8_t *in = halves;
    uint8_t *out = floats;
    size_t i = 0;
    for (; i + VECTOR <= count; i += VECTOR)
        _mm512_storeu_ps(out + 4 * i, load_values(PAGE_F16, in, i, 0xffff));
    __mmask16 live = first_of_16(count - i);
    _mm512_mask_storeu_ps(out + 4 * i, live, load_values(PAGE_F16, in, i, live));
}
