#include "tests/tiny/target.h"

#include "tests/tiny/semihosting.h"
#include "tests/tiny/stack.h"

#include <string.h>

enum { DECODER_WORKSPACE_BYTES_MAX = 160 << 10, CANARY_BYTES = 256, CANARY = 0xc5 };

static uint8_t values[VECTOR_VALUE_BYTES_MAX], page[VECTOR_PAGE_BYTES_MAX];
static uint8_t aged[VECTOR_PAGE_BYTES_MAX], decoded[VECTOR_VALUE_BYTES_MAX];
static uint8_t out[VECTOR_VALUE_BYTES_MAX];
static _Alignas(64) uint8_t workspace[DECODER_WORKSPACE_BYTES_MAX + CANARY_BYTES];

static _Noreturn void give_up(const char *why) {
    host_print(why);
    host_print("\n");
    host_exit(2);
}

void target_open(struct target *target) {
    *target = (struct target){.values = values, .page = page, .aged = aged, .decoded = decoded};
    target->file = host_open("vectors");
    if (target->file < 0)
        give_up("there are no vectors");
}

static void read(struct target *target, void *bytes, size_t count, size_t room) {
    if (count > room || (count > 0 && !host_read(target->file, bytes, count)))
        give_up("the vectors are cut off");
}

bool target_next(struct target *target) {
    const struct vector *vector = &target->vector;
    if (!host_read(target->file, &target->vector, sizeof *vector))
        return false;
    read(target, values, vector->value_bytes, sizeof values);
    read(target, page, vector->page_bytes, sizeof page);
    read(target, aged, vector->aged_bytes, sizeof aged);
    read(target, decoded, vector->value_bytes, sizeof decoded);
    target->vectors++;
    return true;
}

bool target_same(const void *a, const void *b, size_t count) {
    const uint8_t *left = a, *right = b;
    for (size_t i = 0; i < count; i++)
        if (left[i] != right[i])
            return false;
    return true;
}

void target_tell(const struct target *target, const char *what, bool same) {
    host_print(target->vector.name);
    host_print(what);
    host_print(same ? " same\n" : " differs\n");
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static bool is_canary_whole(size_t workspace_bytes) {
    for (size_t i = 0; i < CANARY_BYTES; i++)
        if (workspace[workspace_bytes + i] != CANARY)
            return false;
    return true;
}

/* Of a page that has been looked at. */
static bool decode(struct target *target, const uint8_t *bytes, size_t count,
                   const struct page_shape *shape) {
    struct page_target to = {
        .tokens = shape->tokens,
        .dtype = shape->dtype,
        .values = out,
        .strides = {.token = (size_t)shape->heads * shape->head_dim, .head = shape->head_dim},
    };
    stack_paint();
    int error = page_decode(bytes, count, &to, workspace);
    target->decoder_stack_bytes = larger(target->decoder_stack_bytes, stack_depth());
    return error == PAGE_OK;
}

void target_check_decoding(struct target *target) {
    const struct vector *vector = &target->vector;
    const uint8_t *bytes = vector->aged_bytes > 0 ? aged : page;
    size_t count = vector->aged_bytes > 0 ? vector->aged_bytes : vector->page_bytes;
    struct page_info info;
    if (page_peek(bytes, count, &info) != PAGE_OK)
        give_up("a page is no page");
    size_t needed = page_decode_workspace_bytes(&info.shape);
    if (needed > DECODER_WORKSPACE_BYTES_MAX)
        give_up("a page needs a larger workspace");
    target->decoder_workspace_bytes = larger(target->decoder_workspace_bytes, needed);
    memset(workspace + needed, CANARY, CANARY_BYTES);
    bool same =
        decode(target, bytes, count, &info.shape) && target_same(out, decoded, vector->value_bytes);
    target_tell(target, " decoded", same);
    target_tell(target, " workspace", is_canary_whole(needed));
}

void target_close(const struct target *target) {
    host_print_number("vectors", target->vectors);
    host_print_number("decoder_stack_bytes", target->decoder_stack_bytes);
    host_print_number("decoder_workspace_bytes", target->decoder_workspace_bytes);
    host_exit(0);
}
