/* Values that say whose they are: a token's K and V are made from its stamp alone. */
#ifndef TESTS_FAULTS_VALUES_H
#define TESTS_FAULTS_VALUES_H

#include "daemon/store/geometry.h"

/* Of a stamp: its token may be of bit patterns of any kind, or nothing but zeros. */
#define VALUES_WILD_BIT (UINT64_C(1) << 60)

enum { VALUES_ROW_MAX = 4096 }; /* of one token, layer and part */

/* A number that looks random, of a number. */
uint64_t values_mix(uint64_t number);

/* One part of one layer of a token: [heads, head_dim] in the geometry's dtype. Most stamps give
 * numbers as a model's channels have them. */
void values_make(const struct geometry *geometry, uint64_t stamp, uint32_t layer,
                 enum page_part part, void *row);

#endif
