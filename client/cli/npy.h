/* NumPy's .npy format, versions 1 to 3: C order, little-endian values of any dtype of kvq.h.
 *
 * Works on the caller's memory; an array points into the bytes it was parsed from.
 */
#ifndef CLIENT_CLI_NPY_H
#define CLIENT_CLI_NPY_H

#include "client/c/kvq.h"

enum { NPY_RANK_MAX = 8, NPY_HEADER_BYTES = 192 };

struct npy_array {
    enum kvq_dtype dtype;
    uint32_t rank;
    uint64_t shape[NPY_RANK_MAX];
    const uint8_t *values;
};

/* dtype: what the user says the values are, KVQ_DTYPE_UNSET if nothing; needed for bfloat16 and
 * 8-bit floats. name is that of the file, for the line that says what is wrong. False: complained.
 */
bool npy_parse(const char *name, const uint8_t *bytes, size_t count, enum kvq_dtype dtype,
               struct npy_array *array);

/* One row of integers of 2, 4 or 8 bytes. */
struct npy_integers {
    bool is_signed;
    uint32_t bytes; /* of each */
    uint64_t count;
    const uint8_t *values;
};

/* The same for these. */
bool npy_parse_integers(const char *name, const uint8_t *bytes, size_t count,
                        struct npy_integers *row);

/* One of them; beyond the range it is negative. */
int64_t npy_integer(const struct npy_integers *row, uint64_t index);

/* A header of NPY_HEADER_BYTES for rank dimensions, at most 5. bfloat16 is written as uint16, 8-bit
 * floats as uint8. */
void npy_write_header(uint8_t header[NPY_HEADER_BYTES], enum kvq_dtype dtype, const uint64_t *shape,
                      uint32_t rank);

#endif
