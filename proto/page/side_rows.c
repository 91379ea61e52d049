#include "proto/page/side_rows.h"

size_t side_row_piece(size_t count) {
    return (count + RANS_LANES - 1) / RANS_LANES * RANS_LANES * sizeof(int16_t);
}

int16_t *side_row_take(struct workspace *workspace, size_t count) {
    return workspace_take(workspace, side_row_piece(count));
}

uint8_t side_row_centre(const uint8_t *values, size_t count, int16_t *offsets) {
    PAGE_MUST_HOLD(count > 0);
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    uint8_t centre = (uint8_t)((sum + count / 2) / count);
    for (size_t i = 0; i < count; i++)
        offsets[i] = (int16_t)(values[i] - centre);
    return centre;
}

bool side_row_write(struct page_header *header, struct rans_encoder *encoder, int row,
                    const int16_t *values, size_t count) {
    uint8_t k = (uint8_t)rans_choose_class(values, count);
    header->row_class[row] = k;
    return rans_encode_side_row(encoder, rans_level_class(k), values, count);
}
