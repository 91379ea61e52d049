/* The whole codec: it encodes, ages and decodes every vector. */
#include "tests/tiny/semihosting.h"
#include "tests/tiny/stack.h"
#include "tests/tiny/target.h"

static _Alignas(64) uint8_t encoder_workspace[PAGE_WORKSPACE_BYTES];
static uint8_t page[VECTOR_PAGE_BYTES_MAX];

static void check_encoding(const struct target *target, uint32_t *stack_bytes) {
    const struct vector *vector = &target->vector;
    struct page_source source = {
        .shape = {vector->tokens, vector->heads, vector->head_dim, (enum page_dtype)vector->dtype},
        .part = (enum page_part)vector->part,
        .level = vector->level,
        .sink_tokens = vector->sink_tokens,
        .values = target->values,
        .strides = {.token = (size_t)vector->heads * vector->head_dim, .head = vector->head_dim},
    };
    size_t written = 0;
    stack_paint();
    int error = page_encode(&source, encoder_workspace, page, sizeof page, &written, NULL);
    uint32_t depth = stack_depth();
    *stack_bytes = depth > *stack_bytes ? depth : *stack_bytes;
    bool same = error == PAGE_OK && written == vector->page_bytes;
    target_tell(target, " encoded", same && target_same(page, target->page, written));
}

static void check_ageing(const struct target *target) {
    const struct vector *vector = &target->vector;
    size_t written = 0;
    int error = page_age((struct page_bytes){target->page, vector->page_bytes}, vector->aged_level,
                         encoder_workspace, page, sizeof page, &written, NULL);
    bool same = error == PAGE_OK && written == vector->aged_bytes;
    target_tell(target, " aged", same && target_same(page, target->aged, written));
}

int main(void) {
    static struct target target;
    static uint32_t stack_bytes;
    target_open(&target);
    while (target_next(&target)) {
        check_encoding(&target, &stack_bytes);
        if (target.vector.aged_bytes > 0)
            check_ageing(&target);
        target_check_decoding(&target);
    }
    host_print_number("encoder_stack_bytes", stack_bytes);
    target_close(&target);
}
