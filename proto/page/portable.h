/* The portable rANS kernels, which portable.c puts into its table. */
#ifndef PROTO_PAGE_PORTABLE_H
#define PROTO_PAGE_PORTABLE_H

#include "proto/page/rans.h"

bool portable_rans_decode(struct rans_decoder *decoder, const struct rans_decode_model *model,
                          unsigned low_bits, int16_t *values, size_t count);
void portable_rans_encode(struct rans_encoder *encoder, const struct rans_encode_model *model,
                          unsigned low_bits, const int16_t *values, size_t count);

#endif
