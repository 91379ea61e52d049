#include "daemon/store/batch.h"

#include <assert.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/store/record.h"

enum { MAGIC_BYTES = 8, FORMAT = 1, ALIGNMENT = 64, LANES = 8 };

/* Scores of what is between them are finite. */
#define SQUARE_MOST 0x1p120f
#define SQUARE_LEAST 0x1p-120f

static const char magic[MAGIC_BYTES + 1] = "KVQBATCH";

static_assert(sizeof(struct batch_row) == 40, "as it is written");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are read where they lie");

static uint64_t aligned(uint64_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

bool batch_kind_equal(const struct batch_kind *left, const struct batch_kind *right) {
    return left->dim == right->dim && left->dtype == right->dtype && left->metric == right->metric;
}

size_t batch_vector_bytes(const struct batch_kind *kind) {
    return (size_t)kind->dim * (kind->dtype == BATCH_F32 ? sizeof(float) : sizeof(uint16_t));
}

struct batch_view batch_view(const struct attachment *batch) {
    const uint8_t *bytes = attachment_memory(batch);
    return (struct batch_view){
        .kind = {.dim = (uint32_t)bytes_get(bytes + 12, 4),
                 .dtype = (enum batch_dtype)bytes_get(bytes + 16, 4),
                 .metric = (enum batch_metric)bytes_get(bytes + 20, 4)},
        .rows = (uint32_t)bytes_get(bytes + 24, 4),
        .first_id = batch->spec.id,
        .bytes = bytes,
        .row = (const struct batch_row *)(bytes + BATCH_HEAD_BYTES),
        .vectors = bytes + bytes_get(bytes + 40, 8),
    };
}

struct batch_text batch_label(const struct batch_view *batch, uint32_t row) {
    const struct batch_row *at = &batch->row[row];
    return (struct batch_text){(const char *)batch->bytes + at->strings, at->label_bytes};
}

struct batch_text batch_metadata(const struct batch_view *batch, uint32_t row) {
    const struct batch_row *at = &batch->row[row];
    return (struct batch_text){(const char *)batch->bytes + at->strings + at->label_bytes,
                               at->metadata_bytes};
}

const uint8_t *batch_vector(const struct batch_view *batch, uint32_t row) {
    return batch->vectors + row * batch_vector_bytes(&batch->kind);
}

uint64_t batch_label_hash(struct batch_text label) {
    return label.bytes == 0 ? 0 : record_hash(label.text, label.bytes) | 1;
}

uint64_t batch_vectors_offset(uint64_t rows, uint64_t string_bytes) {
    return aligned(BATCH_HEAD_BYTES + rows * sizeof(struct batch_row) + string_bytes);
}

uint64_t batch_bytes(const struct batch_kind *kind, uint64_t rows, uint64_t string_bytes) {
    return batch_vectors_offset(rows, string_bytes) + rows * batch_vector_bytes(kind);
}

void batch_write_head(uint8_t *bytes, const struct batch_kind *kind, uint32_t rows,
                      uint64_t string_bytes) {
    uint64_t vectors = batch_vectors_offset(rows, string_bytes);
    uint64_t end = BATCH_HEAD_BYTES + rows * sizeof(struct batch_row) + string_bytes;
    memset(bytes, 0, BATCH_HEAD_BYTES);
    memcpy(bytes, magic, MAGIC_BYTES);
    bytes_put(bytes + 8, FORMAT, 4);
    bytes_put(bytes + 12, kind->dim, 4);
    bytes_put(bytes + 16, kind->dtype, 4);
    bytes_put(bytes + 20, kind->metric, 4);
    bytes_put(bytes + 24, rows, 4);
    bytes_put(bytes + 32, batch_bytes(kind, rows, string_bytes), 8);
    bytes_put(bytes + 40, vectors, 8);
    memset(bytes + end, 0, vectors - end);
}

static bool is_kind(const struct batch_kind *kind) {
    return kind->dim > 0 && kind->dim <= BATCH_DIM_MAX &&
           (kind->dtype == BATCH_F32 || kind->dtype == BATCH_F16) &&
           (kind->metric == BATCH_COSINE || kind->metric == BATCH_INNER_PRODUCT);
}

/* Whether the strings of each lie between the rows and the vectors. */
static bool are_rows(const struct batch_view *batch) {
    uint64_t least = BATCH_HEAD_BYTES + batch->rows * sizeof(struct batch_row);
    uint64_t most = (uint64_t)(batch->vectors - batch->bytes);
    for (uint32_t i = 0; i < batch->rows; i++) {
        const struct batch_row *row = &batch->row[i];
        if (row->strings < least || row->strings > most ||
            (uint32_t)row->label_bytes + row->metadata_bytes > most - row->strings ||
            row->label_bytes > BATCH_LABEL_BYTES_MAX || row->tokens == 0 ||
            row->first > UINT64_MAX - row->tokens ||
            row->label_hash != batch_label_hash(batch_label(batch, i)))
            return false;
    }
    return true;
}

bool batch_is_whole(const struct attachment *batch, uint32_t rows) {
    uint64_t bytes = batch->spec.bytes;
    if (batch->extent.bytes == 0 || bytes < BATCH_HEAD_BYTES || !attachment_is_whole(batch) ||
        memcmp(attachment_memory(batch), magic, MAGIC_BYTES) != 0)
        return false;
    struct batch_view view = batch_view(batch);
    uint64_t least = batch_bytes(&view.kind, view.rows, 0);
    uint64_t vectors = (uint64_t)(view.vectors - view.bytes);
    return bytes_get(view.bytes + 8, 4) == FORMAT && is_kind(&view.kind) && view.rows == rows &&
           bytes_get(view.bytes + 32, 8) == bytes && bytes >= least && vectors <= bytes &&
           vectors % ALIGNMENT == 0 && vectors >= batch_vectors_offset(rows, 0) &&
           bytes - vectors == rows * batch_vector_bytes(&view.kind) && are_rows(&view);
}

/* --- vectors --- */

static float sum_of(const float lanes[LANES]) {
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static float square_f32(const uint8_t *vector, uint32_t dim) {
    float lanes[LANES] = {0}, values[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        memcpy(values, vector + i * sizeof(float), sizeof values);
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += values[lane] * values[lane];
    }
    memset(values, 0, sizeof values);
    memcpy(values, vector + i * sizeof(float), (dim - i) * sizeof(float));
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] += values[lane] * values[lane];
    return sum_of(lanes);
}

/* Their squares cannot overflow, nor vanish: it is enough to look at the bits. */
static const char *fault_f16(const uint8_t *vector, uint32_t dim, bool by_direction) {
    uint16_t any = 0, not_finite = 0;
    for (uint32_t i = 0; i < dim; i++) {
        uint16_t bits;
        memcpy(&bits, vector + i * sizeof bits, sizeof bits);
        any |= bits & 0x7fff;
        not_finite |= (bits & 0x7c00) == 0x7c00;
    }
    if (not_finite)
        return "has a value that is not finite";
    return any == 0 && by_direction ? "is zero, which has no direction" : NULL;
}

const char *batch_vector_fault(const struct batch_kind *kind, const uint8_t *vector) {
    bool by_direction = kind->metric == BATCH_COSINE;
    if (kind->dtype == BATCH_F16)
        return fault_f16(vector, kind->dim, by_direction);
    float square = square_f32(vector, kind->dim);
    if (!(square < SQUARE_MOST))
        return "has a value that is not finite, or a length of 2^60 or more";
    return square < SQUARE_LEAST && by_direction ? "is zero, or too short to have a direction"
                                                 : NULL;
}

/* --- as a client gives it --- */

struct batch_entry batch_entry(const struct batch_given *given, uint32_t row) {
    const uint8_t *from = given->entries + (size_t)row * BATCH_ENTRY_BYTES;
    return (struct batch_entry){.first = bytes_get(from, 8),
                                .tokens = (uint32_t)bytes_get(from + 8, 4),
                                .label_bytes = (uint16_t)bytes_get(from + 12, 2),
                                .metadata_bytes = (uint16_t)bytes_get(from + 14, 2)};
}

const char *batch_read_given(struct batch_given *given, const uint8_t *bytes, uint64_t count) {
    uint64_t table = (uint64_t)given->rows * BATCH_ENTRY_BYTES, string_bytes = 0;
    if (!is_kind(&given->kind))
        return "a dim is 1 to 4096, a dtype float16 or float32, a metric cosine or inner product";
    if (given->rows == 0 || table > count)
        return "no entries, or more than their bytes";
    given->entries = bytes;
    given->strings = bytes + table;
    for (uint32_t i = 0; i < given->rows; i++) {
        struct batch_entry entry = batch_entry(given, i);
        if (entry.tokens == 0 || entry.first > UINT64_MAX - entry.tokens)
            return "an entry has no tokens";
        if (entry.label_bytes > BATCH_LABEL_BYTES_MAX ||
            entry.metadata_bytes > BATCH_METADATA_BYTES_MAX)
            return "a label has at most 255 bytes, metadata at most 1024";
        string_bytes += entry.label_bytes + entry.metadata_bytes;
    }
    uint64_t vectors = aligned(table + string_bytes);
    if (vectors + given->rows * batch_vector_bytes(&given->kind) != count)
        return "bytes are not what the entries and their vectors take";
    given->string_bytes = string_bytes;
    given->vectors = bytes + vectors;
    return NULL;
}
