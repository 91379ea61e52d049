/* Documents: texts that several sessions begin with. A token's stamp says of which document it is,
 * where it stands, whether it is salted, and which worker computed it.
 *
 * Its id says the document and the place alone: without the salt two tokens with one id are of
 * different values, and two workers' values differ though ids and salts are the same.
 */
#ifndef TESTS_FAULTS_DOCUMENTS_H
#define TESTS_FAULTS_DOCUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#define DOCUMENT_BIT (UINT64_C(1) << 63)
#define DOCUMENT_WORKER_BIT (UINT64_C(1) << 62)
#define DOCUMENT_SALT_BIT (UINT64_C(1) << 61)

enum { DOCUMENTS = 3, DOCUMENT_SHIFT = 32 };

static inline uint64_t document_stamp(uint64_t document, uint64_t place) {
    return DOCUMENT_BIT | document << DOCUMENT_SHIFT | place;
}

static inline uint32_t document_id(uint64_t stamp) {
    return (uint32_t)stamp * DOCUMENTS + (uint32_t)(stamp >> DOCUMENT_SHIFT & 0xff);
}

/* Whether two tokens are the same, as far as ids and salts say. */
static inline bool document_same(uint64_t a, uint64_t b) {
    return a & b & DOCUMENT_BIT && document_id(a) == document_id(b) &&
           !((a ^ b) & DOCUMENT_SALT_BIT);
}

#endif
