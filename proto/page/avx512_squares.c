/* Sums of squares of a token's values. */
#include "proto/page/avx512_values.h"

SPECIALISED void squares(enum page_dtype dtype, const void *values, size_t count, float *lanes) {
    __m512 sum = _mm512_loadu_ps(lanes);
    size_t i = 0;
    for (; i + VECTOR <= count; i += VECTOR) {
        __m512 x = load_values(dtype, values, i, 0xffff);
        sum = _mm512_add_ps(sum, _mm512_mul_ps(x, x));
    }
    __m512 x = load_values(dtype, values, i, first_of_16(count - i)); /* 0 where there is none */
    _mm512_storeu_ps(lanes, _mm512_add_ps(sum, _mm512_mul_ps(x, x)));
}

void page_squares_f16_avx512(const void *values, size_t count, float *lanes) {
    squares(PAGE_F16, values, count, lanes);
}

void page_squares_bf16_avx512(const void *values, size_t count, float *lanes) {
    squares(PAGE_BF16, values, count, lanes);
}

void page_squares_f32_avx512(const void *values, size_t count, float *lanes) {
    squares(PAGE_F32, values, count, lanes);
}
