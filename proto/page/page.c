/* The public functions: argument checks, sinks, and which coding a page gets. */
#include "proto/page/page.h"
#include "proto/page/coding.h"
#include "proto/page/compact.h"
#include "proto/page/convert.h"
#include "proto/page/exact.h"
#include "proto/page/header.h"
#include "proto/page/quantise.h"
#include "proto/page/rows.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values stand little-endian in a page");

uint32_t page_tokens(uint32_t heads, uint32_t head_dim_k, uint32_t head_dim_v) {
    uint64_t widest = head_dim_k > head_dim_v ? head_dim_k : head_dim_v;
    if (heads == 0 || head_dim_k == 0 || widest * heads > PAGE_VALUES_MAX)
        return 0;
    uint32_t tokens = PAGE_TOKENS_MAX;
    while (tokens * widest * heads > PAGE_VALUES_MAX)
        tokens /= 2;
    return tokens;
}

size_t page_value_bytes(enum page_dtype dtype) {
    switch (dtype) {
    case PAGE_F16:
    case PAGE_BF16:
        return 2;
    case PAGE_F32:
        return 4;
    case PAGE_F8E4M3:
    case PAGE_F8E5M2:
    case PAGE_I8:
        return 1;
    case PAGE_Q8_0:
    case PAGE_Q4_0:
        break;
    }
    return 0;
}

size_t page_row_bytes(enum page_dtype dtype, size_t values) {
    if (page_block_values(dtype) == 1)
        return values * page_value_bytes(dtype);
    if (values % BLOCK_VALUES != 0)
        return 0;
    return values / BLOCK_VALUES * (dtype == PAGE_Q8_0 ? Q8_0_BLOCK_BYTES : Q4_0_BLOCK_BYTES);
}

static bool is_shape_valid(const struct page_shape *shape) {
    return page_row_bytes(shape->dtype, shape->head_dim) != 0 && shape->tokens >= 1 &&
           shape->tokens <= PAGE_TOKENS_MAX && shape->heads >= 1 && shape->head_dim >= 1 &&
           (uint64_t)shape->heads * shape->head_dim <= PAGE_VALUES_MAX / shape->tokens;
}

static size_t token_bytes(const struct page_header *header) {
    return page_row_bytes(header->dtype, page_header_channels(header));
}

/* A raw page's, with every token in the list of exact ones. */
size_t page_bound_bytes(const struct page_shape *shape) {
    size_t row = page_row_bytes(shape->dtype, shape_channels(shape));
    return PAGE_HEADER_BYTES + shape->tokens * (1 + row);
}

size_t page_decode_workspace_bytes(const struct page_shape *shape) {
    size_t channels = shape_channels(shape);
    if (!is_shape_valid(shape))
        return 0;
    if (channels > PAGE_CHANNELS_MAX) /* raw */
        return workspace_piece(1);
    size_t quantised = quantise_decode_workspace_bytes(shape->tokens, channels);
    size_t exact = exact_decode_workspace_bytes(channels);
    return quantised > exact ? quantised : exact;
}

/* ---- encoding ---- */

static bool are_strides_whole(enum page_dtype dtype, const struct page_strides *strides) {
    unsigned block = page_block_values(dtype);
    return strides->token % block == 0 && strides->head % block == 0;
}

static bool is_source_valid(const struct page_source *source) {
    return is_shape_valid(&source->shape) && source->part <= PAGE_V &&
           source->level >= PAGE_LEVEL_MIN && source->level <= PAGE_LEVEL_MAX &&
           source->sink_tokens <= source->shape.tokens &&
           are_strides_whole(source->shape.dtype, &source->strides);
}

uint8_t *page_write_exact_tokens(const struct page_source *source, const struct page_header *header,
                                 uint8_t *page, double *energy) {
    struct page_source_tokens tokens;
    uint8_t *out = page + page_header_bytes(header);
    page_exact_source(source, header, &tokens);
    for (size_t t = 0; t < tokens.count; t++, out += token_bytes(header))
        page_copy_token(&tokens, t, out);
    *energy += page_tokens_energy(&tokens);
    return out;
}

bool page_set_loss(struct page_header *header, const struct loss_sums *loss) {
    if (!(loss->error <= (double)PAGE_F32_MAX) || !(loss->energy <= (double)PAGE_F32_MAX))
        return false; /* or one is a NaN */
    header->error = (float)loss->error;
    header->energy = (float)loss->energy;
    return true;
}

static struct page_header plain_header(const struct page_source *source) {
    struct page_header header = {
        .coding = CODING_RAW,
        .dtype = source->shape.dtype,
        .part = source->part,
        .level = PAGE_EXACT,
        .tokens = (uint8_t)source->shape.tokens,
        .sink_tokens = (uint8_t)source->sink_tokens,
        .exact_tokens = (uint8_t)source->sink_tokens,
        .heads = source->shape.heads,
        .head_dim = source->shape.head_dim,
    };
    for (int t = 0; t < header.exact_tokens; t++)
        header.exact_token[t] = (uint8_t)t;
    return header;
}

/* These return the page's length; encode_lossy 0 if the level does not suit it. */

static size_t encode_raw(const struct page_source *source, struct page_header *header,
                         uint8_t *page) {
    struct page_source_tokens tokens;
    struct loss_sums loss = {0};
    uint8_t *out = page_write_exact_tokens(source, header, page, &loss.energy);
    page_coded_source(source, header, &tokens);
    for (size_t t = 0; t < tokens.count; t++, out += token_bytes(header))
        page_copy_token(&tokens, t, out);
    loss.energy += page_tokens_energy(&tokens);
    if (!page_set_loss(header, &loss))
        header->energy = PAGE_F32_MAX;
    return page_raw_bytes(header);
}

static size_t encode_exact(const struct page_source *source, struct workspace workspace,
                           struct page_header *header, uint8_t *page) {
    *header = plain_header(source);
    header->coding = CODING_EXACT;
    size_t length = page_may_be_coded(header) ? exact_encode(source, workspace, header, page) : 0;
    if (length != 0)
        return length;
    *header = plain_header(source);
    return encode_raw(source, header, page);
}

static size_t encode_lossy(const struct page_source *source, int level, struct workspace workspace,
                           struct page_header *header, uint8_t *page) {
    *header = plain_header(source);
    header->level = level;
    header->coding = level == PAGE_FAST8 ? CODING_FAST8 : CODING_RANS;
    if (!page_may_be_coded(header) || (level == PAGE_FAST8 && page_is_compact(header->dtype)))
        return 0;
    return level == PAGE_FAST8 ? fast8_encode(source, workspace, header, page)
                               : quantise_encode(source, workspace, header, page);
}

/* Whether the exact page would certainly take as many bytes. */
static bool is_exact_larger(const struct page_source *source, struct workspace workspace,
                            size_t bytes) {
    struct page_header header = plain_header(source);
    return exact_takes(source, &header, workspace, bytes);
}

/* The smaller of the two codings. */
static size_t encode_level(const struct page_source *source, int level, struct workspace workspace,
                           struct page_header *header, uint8_t *page) {
    size_t lossy = encode_lossy(source, level, workspace, header, page);
    if (lossy != 0 && is_exact_larger(source, workspace, lossy))
        return lossy;
    size_t exact = encode_exact(source, workspace, header, page);
    if (lossy == 0 || exact < lossy)
        return exact;
    return encode_lossy(source, level, workspace, header, page);
}

/* What rounding decoded values to the page's dtype may add to the error: a twelfth of the square of
 * the last digit's worth, which is largest against the value itself at a power of two. */
static double rounding_error(const struct page_header *header) {
    double share = header->dtype == PAGE_F16 ? 0x1p-20 : header->dtype == PAGE_BF16 ? 0x1p-14 : 0;
    return share / 12 * (double)header->energy;
}

/* 10^(decibels / 10), the same on every machine: no C library's. */
static double ratio_of(double decibels) {
    const double one_decibel = 0x1.4248ef8fc2604p+0, exponent_of_one = 0x1.d791c5f888823p-3;
    int whole = (int)decibels;
    double ratio = 1, term = 1, series = 1;
    for (int i = 0; i < whole; i++)
        ratio *= one_decibel;
    for (int i = 1; i <= 12; i++) {
        term *= (decibels - whole) * exponent_of_one / i;
        series += term;
    }
    return ratio * series;
}

static bool has_decibels(const struct page_header *header, double decibels) {
    enum { FLOATS_APART = 1000 }; /* no energy is so many above an error */
    if (header->error == 0 || decibels > FLOATS_APART)
        return header->error == 0;
    double error = (double)header->error + rounding_error(header);
    return (double)header->energy >= error * ratio_of(decibels);
}

/* The coarsest of the levels that has as many decibels as are wanted. */
static size_t encode_wanted(const struct page_source *source, struct workspace workspace,
                            struct page_header *header, uint8_t *page) {
    for (int level = source->level; level > PAGE_EXACT; level--) {
        size_t length = encode_level(source, level, workspace, header, page);
        if (!(source->snr_db > 0) || has_decibels(header, source->snr_db))
            return length;
    }
    return encode_exact(source, workspace, header, page);
}

static void fill_info(const struct page_header *header, struct page_info *info) {
    *info = (struct page_info){
        .shape = {.tokens = header->tokens,
                  .heads = header->heads,
                  .head_dim = header->head_dim,
                  .dtype = header->dtype},
        .part = header->part,
        .level = header->level,
        .sink_tokens = header->sink_tokens,
        .exact_tokens = header->exact_tokens,
        .estimated = (header->flags & FLAG_ESTIMATED) != 0,
        .loss = {.error = (double)header->error, .energy = (double)header->energy},
        .sink_bytes = header->exact_tokens * token_bytes(header),
    };
}

int page_encode(const struct page_source *source, void *workspace, void *out, size_t out_bytes,
                size_t *written, struct page_info *info) {
    if (!is_source_valid(source) || !page_workspace_is_valid(workspace) ||
        out_bytes < page_bound_bytes(&source->shape))
        return PAGE_ARGUMENT;
    struct page_header header;
    struct workspace whole = page_workspace(workspace);
    *written = encode_wanted(source, whole, &header, out);
    header.page_bytes = (uint32_t)*written;
    page_header_write(&header, out);
    if (info != NULL)
        fill_info(&header, info);
    return PAGE_OK;
}

/* ---- decoding ---- */

int page_peek(const void *page, size_t page_bytes, struct page_info *info) {
    struct page_header header;
    int error = page_header_read(page, page_bytes, &header);
    if (error == PAGE_OK)
        fill_info(&header, info);
    return error;
}

/* Exact tokens that the target asks for. */
static void decode_exact_tokens(const struct page_header *header, const uint8_t *page,
                                const struct page_target *target) {
    const uint8_t *values = page + page_header_bytes(header);
    for (size_t i = 0; i < header->exact_tokens; i++) {
        size_t token = header->exact_token[i];
        if (token >= target->first && token - target->first < target->tokens)
            page_store_token(target, header->heads, header->head_dim, token, header->dtype,
                             values + i * token_bytes(header));
    }
}

static bool decode_raw(const struct page_header *header, struct payload payload,
                       const struct page_target_tokens *target) {
    size_t row = token_bytes(header);
    if (payload.length != page_header_coded(header) * row)
        return false;
    for (size_t t = target->first; t < target->last; t++)
        page_store_row(&target->layout, header->dtype, payload.bytes + t * row, target->rows[t]);
    return true;
}

/* Compact dtypes are for pages of their own. */
static bool is_target_valid(const struct page_target *target, const struct page_header *header) {
    return page_row_bytes(target->dtype, header->head_dim) != 0 &&
           (!page_is_compact(target->dtype) || target->dtype == header->dtype) &&
           are_strides_whole(target->dtype, &target->strides);
}

/* Kernels write past the caches in no order that other threads could rely on; this makes one, once
 * a call, because it waits for all of them. */
static void end_streaming(void) {
#ifdef __SSE__
    _mm_sfence();
#endif
}

/* A page on its way into its target. */
struct decoding {
    struct page_header header;
    struct payload payload;
    struct page_target_tokens target;
};

/* Checks page and target, and decodes the exact tokens. */
static int begin_decoding(const struct page_bytes *page, const struct page_target *target,
                          struct decoding *decoding) {
    struct page_header *header = &decoding->header;
    int error = page_header_read(page->page, page->bytes, header);
    if (error != PAGE_OK)
        return error;
    if (!is_target_valid(target, header) || target->first > header->tokens ||
        target->tokens > header->tokens - target->first)
        return PAGE_ARGUMENT;
    size_t front = page_exact_end(header);
    decoding->payload =
        (struct payload){(const uint8_t *)page->page + front, header->page_bytes - front};
    page_coded_target(target, header, &decoding->target);
    decode_exact_tokens(header, page->page, target);
    return PAGE_OK;
}

static bool decode_coded(const struct decoding *decoding, struct workspace workspace) {
    const struct page_header *header = &decoding->header;
    if (decoding->target.first == decoding->target.last)
        return true;
    switch (header->coding) {
    case CODING_RAW:
        return decode_raw(header, decoding->payload, &decoding->target);
    case CODING_EXACT:
        return exact_decode_page(header, decoding->payload, &decoding->target, workspace);
    case CODING_FAST8:
        return fast8_decode(header, decoding->payload, &decoding->target, workspace);
    case CODING_RANS:
        return quantise_decode_page(header, decoding->payload, &decoding->target, workspace);
    }
    return false;
}

int page_decode(const void *page, size_t page_bytes, const struct page_target *target,
                void *workspace) {
    struct decoding decoding;
    int error = begin_decoding(&(struct page_bytes){page, page_bytes}, target, &decoding);
    if (error != PAGE_OK)
        return error;
    if (!page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    bool sound = decode_coded(&decoding, page_workspace(workspace));
    if (target->streaming)
        end_streaming();
    return sound ? PAGE_OK : PAGE_DAMAGED;
}

/* Whether tiles of the two fit one call of a kernel. */
static bool are_alike(const struct decoding *a, const struct decoding *b) {
    return a->header.coding == b->header.coding &&
           (a->header.coding == CODING_RANS || a->header.coding == CODING_EXACT) &&
           (a->header.flags & FLAG_WIDE) == (b->header.flags & FLAG_WIDE) &&
           page_header_channels(&a->header) == page_header_channels(&b->header) &&
           a->target.first < a->target.last && b->target.first < b->target.last;
}

static bool decode_exact_pair(const struct decoding decodings[2], struct workspace workspace) {
    struct exact_reader readers[2];
    for (int i = 0; i < 2; i++)
        if (!exact_open(&readers[i], &decodings[i].header, decodings[i].payload, &workspace))
            return false;
    struct exact_reader *const both[2] = {&readers[0], &readers[1]};
    const struct page_target_tokens *const targets[2] = {&decodings[0].target,
                                                         &decodings[1].target};
    return exact_decode(both, targets, 2, workspace);
}

static bool decode_coded_pair(const struct decoding decodings[2], struct workspace workspace) {
    if (!are_alike(&decodings[0], &decodings[1]))
        return decode_coded(&decodings[0], workspace) && decode_coded(&decodings[1], workspace);
    if (decodings[0].header.coding == CODING_EXACT)
        return decode_exact_pair(decodings, workspace);
    struct quantise_reader readers[2];
    for (int i = 0; i < 2; i++)
        if (!quantise_open(&readers[i], &decodings[i].header, decodings[i].payload, &workspace))
            return false;
    struct quantise_reader *const both[2] = {&readers[0], &readers[1]};
    const struct page_target_tokens *const targets[2] = {&decodings[0].target,
                                                         &decodings[1].target};
    return quantise_decode(both, targets, 2, workspace);
}

int page_decode_pair(const struct page_bytes pages[2], const struct page_target targets[2],
                     void *workspace) {
    struct decoding decodings[2];
    if (!page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    for (int i = 0; i < 2; i++) {
        int error = begin_decoding(&pages[i], &targets[i], &decodings[i]);
        if (error != PAGE_OK)
            return error;
    }
    bool sound = decode_coded_pair(decodings, page_workspace(workspace));
    if (targets[0].streaming || targets[1].streaming)
        end_streaming();
    return sound ? PAGE_OK : PAGE_DAMAGED;
}
