/* The public functions: argument checks, sinks, and which coding a page gets. */
#include "proto/page/page.h"
#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/header.h"
#include "proto/page/kernels.h"
#include "proto/page/rans.h"
#include "proto/page/rows.h"

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
    }
    return 0;
}

static bool is_shape_valid(const struct page_shape *shape) {
    return page_value_bytes(shape->dtype) != 0 && shape->tokens >= 1 &&
           shape->tokens <= PAGE_TOKENS_MAX && shape->heads >= 1 && shape->head_dim >= 1 &&
           (uint64_t)shape->heads * shape->head_dim <= PAGE_VALUES_MAX / shape->tokens;
}

static size_t raw_bytes(const struct page_shape *shape, size_t tokens) {
    return tokens * shape_channels(shape) * page_value_bytes(shape->dtype);
}

size_t page_bound_bytes(const struct page_shape *shape) {
    return PAGE_HEADER_BYTES + raw_bytes(shape, shape->tokens);
}

/* ---- encoding ---- */

static bool is_source_valid(const struct page_source *source) {
    return is_shape_valid(&source->shape) && source->part <= PAGE_V &&
           source->level >= PAGE_LEVEL_MIN && source->level <= PAGE_LEVEL_MAX &&
           source->sink_tokens <= source->shape.tokens;
}

/* Squares of a token's finite values. */
static double token_energy(const struct page_source *source, size_t token) {
    float lanes[PAGE_LANES] = {0}, row[PAGE_BLOCK];
    size_t channels = shape_channels(&source->shape);
    for (size_t c = 0; c < channels; c += PAGE_BLOCK) {
        size_t count = channels - c < PAGE_BLOCK ? channels - c : PAGE_BLOCK;
        page_load_token(source, token, c, count, row);
        for (size_t i = 0; i < count; i++)
            row[i] = (float_bits(row[i]) & 0x7f800000u) == 0x7f800000u ? 0 : row[i];
        page_kernels()->square(row, count, lanes);
    }
    return (double)page_fold(lanes);
}

static double tokens_energy(const struct page_source *source, size_t first, size_t last) {
    double energy = 0;
    for (size_t t = first; t < last; t++)
        energy += token_energy(source, t);
    return energy;
}

static bool is_sum_storable(double sum) {
    return sum <= (double)PAGE_F32_MAX; /* false for a NaN too */
}

static void copy_tokens(const struct page_source *source, size_t first, size_t last, uint8_t *out) {
    size_t token_bytes = raw_bytes(&source->shape, 1);
    for (size_t t = first; t < last; t++, out += token_bytes)
        page_copy_token(source, t, out);
}

struct attempt {
    const struct page_source *source;
    struct workspace workspace;
    double sink_energy;
    uint8_t *payload; /* behind header and sinks */
    size_t raw_bytes; /* of the payload's tokens; no coding may take as much */
};

static struct page_header plain_header(const struct page_source *source) {
    return (struct page_header){
        .coding = CODING_RAW,
        .dtype = source->shape.dtype,
        .part = source->part,
        .level = PAGE_EXACT,
        .tokens = (uint8_t)source->shape.tokens,
        .sink_tokens = (uint8_t)source->sink_tokens,
        .heads = source->shape.heads,
        .head_dim = source->shape.head_dim,
    };
}

/* Returns the payload's length. */
static size_t encode_exact(const struct attempt *attempt, struct page_header *header) {
    const struct page_source *source = attempt->source;
    *header = plain_header(source);
    double energy =
        attempt->sink_energy + tokens_energy(source, source->sink_tokens, source->shape.tokens);
    header->energy = is_sum_storable(energy) ? (float)energy : PAGE_F32_MAX;
    struct page_header coded = *header;
    coded.coding = CODING_EXACT;
    size_t length = attempt->raw_bytes == 0 ? 0
                                            : exact_encode(source, attempt->workspace, &coded,
                                                           attempt->payload, attempt->raw_bytes);
    if (length == 0) {
        copy_tokens(source, source->sink_tokens, source->shape.tokens, attempt->payload);
        return attempt->raw_bytes;
    }
    *header = coded;
    return length;
}

/* Returns the payload's length, 0 if the level does not suit the page. */
static size_t encode_lossy(const struct attempt *attempt, struct page_header *header) {
    const struct page_source *source = attempt->source;
    if (attempt->raw_bytes == 0)
        return 0;
    *header = plain_header(source);
    header->level = source->level;
    header->coding = source->level == PAGE_FAST8 ? CODING_FAST8 : CODING_RANS;
    struct loss_sums loss = {.energy = attempt->sink_energy};
    size_t (*encode)(const struct page_source *, struct workspace, struct page_header *,
                     struct loss_sums *, uint8_t *, size_t) =
        source->level == PAGE_FAST8 ? fast8_encode : quantise_encode;
    size_t length =
        encode(source, attempt->workspace, header, &loss, attempt->payload, attempt->raw_bytes);
    if (!is_sum_storable(loss.error) || !is_sum_storable(loss.energy))
        return 0;
    header->error = (float)loss.error;
    header->energy = (float)loss.energy;
    return length;
}

/* The smaller of the two codings. */
static size_t encode_payload(const struct attempt *attempt, struct page_header *header) {
    if (attempt->source->level == PAGE_EXACT)
        return encode_exact(attempt, header);
    size_t lossy = encode_lossy(attempt, header);
    if (lossy != 0 && exact_takes(attempt->source, attempt->workspace, lossy))
        return lossy;
    size_t exact = encode_exact(attempt, header);
    if (lossy == 0 || exact < lossy)
        return exact;
    return encode_lossy(attempt, header);
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
        .exact_tokens = header->sink_tokens,
        .loss = {.error = (double)header->error, .energy = (double)header->energy},
    };
    info->sink_bytes = raw_bytes(&info->shape, header->sink_tokens);
}

static bool is_workspace_valid(const void *workspace) {
    return workspace != NULL && (uintptr_t)workspace % 64 == 0;
}

static struct workspace whole_workspace(void *memory) {
    return (struct workspace){memory, (uint8_t *)memory + PAGE_WORKSPACE_BYTES};
}

int page_encode(const struct page_source *source, void *workspace, void *out, size_t out_bytes,
                size_t *written, struct page_info *info) {
    if (!is_source_valid(source) || !is_workspace_valid(workspace) ||
        out_bytes < page_bound_bytes(&source->shape))
        return PAGE_ARGUMENT;
    uint8_t *sinks = (uint8_t *)out + PAGE_HEADER_BYTES;
    size_t sink_bytes = raw_bytes(&source->shape, source->sink_tokens);
    copy_tokens(source, 0, source->sink_tokens, sinks);
    struct attempt attempt = {
        .source = source,
        .workspace = whole_workspace(workspace),
        .sink_energy = tokens_energy(source, 0, source->sink_tokens),
        .payload = sinks + sink_bytes,
        .raw_bytes = raw_bytes(&source->shape, source->shape.tokens) - sink_bytes,
    };
    struct page_header header;
    *written = PAGE_HEADER_BYTES + sink_bytes + encode_payload(&attempt, &header);
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

/* Tokens first .. last - 1, plain in the page from `values` on. */
static void decode_plain(const struct page_header *header, const uint8_t *values,
                         const struct page_target *target, size_t first, size_t last) {
    size_t token_bytes = page_header_channels(header) * page_value_bytes(header->dtype);
    for (size_t t = first; t < last; t++)
        page_store_token(target, header->heads, header->head_dim, t, header->dtype,
                         values + t * token_bytes);
}

static bool decode_coded(const struct page_header *header, const uint8_t *page,
                         struct payload payload, const struct page_target *target, size_t first,
                         size_t last, struct workspace workspace) {
    switch (header->coding) {
    case CODING_RAW:
        decode_plain(header, page + PAGE_HEADER_BYTES, target, first, last);
        return true;
    case CODING_EXACT:
        return exact_decode(header, payload, target, first, last, workspace);
    case CODING_FAST8:
        return fast8_decode(header, payload, target, first, last, workspace);
    case CODING_RANS:
        return quantise_decode(header, payload, target, first, last, workspace);
    }
    return false;
}

int page_decode(const void *page, size_t page_bytes, const struct page_target *target,
                void *workspace) {
    struct page_header header;
    int error = page_header_read(page, page_bytes, &header);
    if (error != PAGE_OK)
        return error;
    if (page_value_bytes(target->dtype) == 0 || target->first > header.tokens ||
        target->tokens > header.tokens - target->first || !is_workspace_valid(workspace))
        return PAGE_ARGUMENT;
    size_t last = target->first + target->tokens;
    size_t plain_last = last < header.sink_tokens ? last : header.sink_tokens;
    decode_plain(&header, (const uint8_t *)page + PAGE_HEADER_BYTES, target, target->first,
                 plain_last);
    size_t first = target->first > header.sink_tokens ? target->first : header.sink_tokens;
    if (first >= last)
        return PAGE_OK;
    struct page_info info;
    fill_info(&header, &info);
    size_t before = PAGE_HEADER_BYTES + info.sink_bytes;
    struct payload payload = {(const uint8_t *)page + before, header.page_bytes - before};
    if (header.coding == CODING_RAW &&
        payload.length != raw_bytes(&info.shape, page_header_coded(&header)))
        return PAGE_DAMAGED;
    bool whole =
        decode_coded(&header, page, payload, target, first, last, whole_workspace(workspace));
    return whole ? PAGE_OK : PAGE_DAMAGED;
}

int page_decode_pair(const struct page_bytes pages[2], const struct page_target targets[2],
                     void *workspace) {
    int error = page_decode(pages[0].page, pages[0].bytes, &targets[0], workspace);
    return error != PAGE_OK ? error
                            : page_decode(pages[1].page, pages[1].bytes, &targets[1], workspace);
}
