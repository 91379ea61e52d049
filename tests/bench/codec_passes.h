/* What bench_codec takes the time of: each function walks all pages once. */
#ifndef TESTS_BENCH_CODEC_PASSES_H
#define TESTS_BENCH_CODEC_PASSES_H

#include "tests/bench/codec_pages.h"

struct codec_pass {
    struct codec_pages *pages;
    int level;
    bool streaming; /* of decoders */
};

/* Source to target, a page at a time. */
void pass_memcpy(const struct codec_pass *pass);
void pass_streaming(const struct codec_pass *pass);

/* Source to coded[level]. */
void pass_encode(const struct codec_pass *pass);
/* coded[level] to target: each page alone, and K and V together. */
void pass_decode(const struct codec_pass *pass);
void pass_decode_pairs(const struct codec_pass *pass);
/* coded[level] to aged, one level coarser: each page alone, and K and V together. What holds
 * another level stays. */
void pass_age(const struct codec_pass *pass);
void pass_age_pairs(const struct codec_pass *pass);

#endif
