/* What portable.c and portable_rans.c share.
 *
 * Both are compiled once for each instruction set, so that what they export is named after it: the
 * build defines PAGE_TARGET, the name, for all but the compiler's own target.
 */
#ifndef PROTO_PAGE_PORTABLE_H
#define PROTO_PAGE_PORTABLE_H

#include "proto/page/rans.h"

#ifndef PAGE_TARGET
#define PAGE_TARGET portable
#endif

#define PAGE_JOIN_EXPANDED(name, target) name##target
#define PAGE_JOIN(name, target) PAGE_JOIN_EXPANDED(name, target)
#define PAGE_OF_TARGET(name) PAGE_JOIN(name, PAGE_TARGET)
#define PAGE_QUOTE_EXPANDED(name) #name
#define PAGE_QUOTE(name) PAGE_QUOTE_EXPANDED(name)

#define rans_decode_of_target PAGE_OF_TARGET(page_rans_decode_)
#define rans_encode_of_target PAGE_OF_TARGET(page_rans_encode_)

bool rans_decode_of_target(struct rans_decoder *decoder, const struct rans_decode_model *model,
                           unsigned low_bits, int16_t *values, size_t count);
void rans_encode_of_target(struct rans_encoder *encoder, const struct rans_encode_model *model,
                           unsigned low_bits, const int16_t *values, size_t count);

#endif
