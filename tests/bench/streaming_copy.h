/* A copy with stores that go past the caches: what is overwritten is not read first. */
#ifndef TESTS_BENCH_STREAMING_COPY_H
#define TESTS_BENCH_STREAMING_COPY_H

#include <stddef.h>

#ifdef __SSE2__
#include <emmintrin.h>

enum { STREAMING_COPY = 1 };

/* Both sides are aligned to 16 bytes, and bytes are a multiple of 64. */
static inline void streaming_copy(void *target, const void *source, size_t bytes) {
    const __m128i *from = source;
    __m128i *to = target;
    for (size_t i = 0; i < bytes / sizeof *to; i += 4) {
        __m128i a = _mm_load_si128(from + i), b = _mm_load_si128(from + i + 1);
        __m128i c = _mm_load_si128(from + i + 2), d = _mm_load_si128(from + i + 3);
        _mm_stream_si128(to + i, a);
        _mm_stream_si128(to + i + 1, b);
        _mm_stream_si128(to + i + 2, c);
        _mm_stream_si128(to + i + 3, d);
    }
    _mm_sfence();
}
#else
enum { STREAMING_COPY = 0 };
#endif

#endif
