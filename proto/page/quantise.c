/* What a quantised page is made of, for encoder and decoder alike. */
#include "proto/page/quantise.h"
#include "proto/page/side_rows.h"

static const float QUARTER[4] = {1.0f, 0x1.306fep+0f, 0x1.6a09e6p+0f, 0x1.ae89fap+0f};

static float float_of_upper_half(uint16_t upper_half) {
    return bits_float((uint32_t)upper_half << 16);
}

float quantised_step(uint16_t step_upper_half, int scale) {
    int octave = scale >> 2;
    float step = float_of_upper_half(step_upper_half) * QUARTER[scale & 3];
    return round_to_bfloat(step * bits_float((uint32_t)(octave + 127) << 23));
}

float quantised_mean_unit(const struct page_header *header) {
    uint32_t exponent = 127u - MEAN_BITS + header->mean_shift;
    return float_of_upper_half(header->step) * bits_float(exponent << 23);
}

void quantised_init(struct quantised *page, const struct page_header *header,
                    struct workspace *workspace) {
    page->channels = page_header_channels(header);
    page->tokens = page_header_coded(header);
    page->scale = side_row_take(workspace, page->tokens);
    page->class_offset = side_row_take(workspace, page->channels);
    page->mean_units = side_row_take(workspace, page->channels);
    page->mean = workspace_take(workspace, page->channels * sizeof *page->mean);
    page->classes = workspace_take(workspace, page->channels * sizeof *page->classes);
}
