/* What a device carries that only reads a cache: it decodes every vector's page. */
#include "tests/tiny/target.h"

/* The table of kernels names one that takes square roots, which no decoder calls. */
float sqrtf(float value);
float sqrtf(float value) {
    (void)value;
    __builtin_trap();
}

int main(void) {
    static struct target target;
    target_open(&target);
    while (target_next(&target))
        target_check_decoding(&target);
    target_close(&target);
}
