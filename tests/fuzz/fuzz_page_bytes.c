/* libFuzzer: any bytes to the readers of pages.
 *
 * All tables of kernels that the machine runs, one after another, must make the same of them; with
 * KVQ_CPU in the environment only that table is asked.
 */
#include "tests/fuzz/kernel_tables.h"
#include "tests/fuzz/page_bytes.h"

#include <string.h>

enum { LENGTH_AT = 20, LENGTH_BYTES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t length_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length, size_t length_max);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static struct page_reader reader;
    if (reader.page.first == NULL)
        reader = page_reader_new();
    bool at_end = length % 2, one = getenv("KVQ_CPU") != NULL;
    uint64_t expected = one ? page_reader_try(&reader, bytes, length, at_end) : 0;
    for (size_t i = 0; !one && i < KERNEL_TABLES_MAX; i++) {
        const struct page_kernels *kernels = kernel_table(i);
        if (kernels == NULL)
            continue;
        page_kernels_use(kernels);
        uint64_t digest = page_reader_try(&reader, bytes, length, at_end);
        must(i == 0 || digest == expected, kernels->name);
        expected = digest;
    }
    return 0;
}

/* Most changes of length would end at the header, which tells it: told again, they go on. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t length_max, unsigned seed) {
    length = LLVMFuzzerMutate(bytes, length, length_max);
    uint32_t told = (uint32_t)length;
    if (seed % 8 != 0 && length >= LENGTH_AT + LENGTH_BYTES)
        memcpy(bytes + LENGTH_AT, &told, LENGTH_BYTES);
    return length;
}
