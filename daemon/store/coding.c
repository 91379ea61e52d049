#include "daemon/store/coding.h"

#include <math.h>

enum { THOUSAND = 1000, BYTES_OF_16_BITS = 2 };

const struct histogram_scale coding_snr_scale = {
    1e-3,
    {5000, 10000, 15000, 18000, 21000, 24000, 27000, 30000, 35000, 40000, 45000, 50000, 60000}};

const struct histogram_scale coding_bits_scale = {
    1e-3, {1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 6000, 8000, 12000, 16000}};

static uint64_t values_of(const struct page_info *page, uint32_t tokens) {
    return (uint64_t)tokens * page->shape.heads * page->shape.head_dim;
}

void coding_count(struct coding *coding, enum coding_step step, const struct page_info *page,
                  uint32_t tokens, uint64_t ns) {
    struct coding_count *count = &coding->counts[step][page->level - PAGE_LEVEL_MIN];
    uint64_t bytes = values_of(page, tokens) * BYTES_OF_16_BITS;
    atomic_fetch_add_explicit(&count->bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&count->ns, ns, memory_order_relaxed);
}

void coding_judge(struct coding *coding, const struct page_info *page, size_t page_bytes,
                  double inherited_error) {
    uint64_t values = values_of(page, page->shape.tokens);
    double error = page->loss.error + inherited_error;
    if (page->level == PAGE_EXACT || values == 0 || !(error > 0) || !(page->loss.energy > 0))
        return;
    double snr_db = 10 * log10(page->loss.energy / error);
    histogram_add(&coding->snr[page->part], &coding_snr_scale,
                  snr_db > 0 ? (uint64_t)(snr_db * THOUSAND) : 0);
    histogram_add(&coding->bits[page->part], &coding_bits_scale,
                  page_bytes * 8 * THOUSAND / values);
}
