/* What coding pages took, by level, and how true what came of it is: counters since the start.
 *
 * Whoever codes adds, from any thread, and whoever reads may be behind by what is being coded.
 */
#ifndef DAEMON_STORE_CODING_H
#define DAEMON_STORE_CODING_H

#include "daemon/base/histogram.h"
#include "daemon/store/geometry.h"
#include "daemon/store/usage.h"

struct coding_count {
    _Atomic uint64_t bytes; /* of the values, 16 bits each */
    _Atomic uint64_t ns;    /* by the clock: waiting for a processor is in it */
};

enum coding_step { CODING_ENCODE, CODING_AGE, CODING_DECODE, CODING_STEPS };

struct coding {
    struct coding_count counts[CODING_STEPS][USAGE_LEVELS]; /* by level - PAGE_LEVEL_MIN */
    /* Of each page that was coded or made coarser and is not exact: decibels, of which those after
     * ageing are estimates; and its bits a value. */
    struct histogram snr[GEOMETRY_PARTS];
    struct histogram bits[GEOMETRY_PARTS];
};

extern const struct histogram_scale coding_snr_scale, coding_bits_scale;

/* A step of so many of the page's tokens. */
void coding_count(struct coding *coding, enum coding_step step, const struct page_info *page,
                  uint32_t tokens, uint64_t ns);

/* A page as it now is, of so many bytes, with what it took over from an already lossy one. */
void coding_judge(struct coding *coding, const struct page_info *page, size_t page_bytes,
                  double inherited_error);

#endif
