#include "client/cli/bench_synthetic.h"
#include "client/cli/help.h"
#include "client/cli/json.h"
#include "client/cli/model_values.h"
#include "client/cli/words.h"

static const double writeup_ratio = 4;
static const char footnote[] =
    "[1] what the write-up gives for one tensor: bytes, and a ratio. Its bytes are those of 2-byte "
    "values in the first shape only; in the others they are those of 1-byte values (1 x 16 x 1024 "
    "x 64 = 1 MiB), so that there its ratio does not refer to the 16-bit size.";

static double mib(uint64_t bytes) {
    return (double)bytes / (1 << 20);
}

static double ratio_of(const struct synthetic_row *row) {
    return (double)row->bytes_16bit / (double)row->pool_bytes;
}

static double saved_bytes(const struct synthetic_row *row) {
    return (double)row->bytes_16bit - (double)row->pool_bytes;
}

static void print_row(const struct synthetic_shape *shape, const struct synthetic_row *row,
                      const char *label) {
    char snr[WORD_BYTES];
    int length = snprintf(snr, sizeof snr, "%.1f", row->snr_k_db);
    if (row->both)
        snprintf(snr + length, sizeof snr - (size_t)length, " %.1f", row->snr_v_db);
    printf("%-15s %5s  %-3s %7.4f %7.4f %7.4f %5.2f %9s", label, level_name(row->level),
           row->both ? "K+V" : "one", mib(row->bytes_16bit), mib(row->pool_bytes),
           saved_bytes(row) / (1 << 20), ratio_of(row), snr);
    if (!row->both)
        printf(" %7.4g %.2f", mib(shape->writeup_bytes), writeup_ratio);
    putchar('\n');
}

void synthetic_print_table(const struct synthetic_report *report) {
    char dimensions[WORD_BYTES];
    print_wrapped(stdout, 0, MODEL_VALUES_TEXT);
    printf("Seed: %llu.\n\n", (unsigned long long)report->seed);
    printf("%-15s %5s  %-3s %7s %7s %7s %5s %9s %s\n", "", "", "", "16-bit", "in pool", "saved", "",
           "", "write-up[1]");
    printf("%-15s %5s  %-3s %7s %7s %7s %5s %9s %s\n", "shape", "level", "of", "MiB", "MiB", "MiB",
           "ratio", "dB", "    MiB ratio");
    for (int i = 0; i < SYNTHETIC_SHAPES; i++) {
        const struct synthetic_shape *shape = &synthetic_shapes[i];
        snprintf(dimensions, sizeof dimensions, "(1,%u,%llu,%u)", shape->heads,
                 (unsigned long long)shape->tokens, shape->head_dim);
        for (int j = 0; j < SYNTHETIC_ROWS; j++)
            print_row(shape, &report->rows[i][j], j == 0 ? shape->name : j == 1 ? dimensions : "");
    }
    print_wrapped(stdout, 0,
                  "\nShapes are (batch, heads, tokens, head_dim), sessions of one layer. In the "
                  "pool: all that the session takes, its entry and its 4 exact first tokens "
                  "included. dB: 10 log10 of squared values over squared differences, of K, of V.");
    print_wrapped(stdout, 0, footnote);
}

static void shape_json(struct json *json, const struct synthetic_shape *shape) {
    json_string(json, "name", shape->name);
    json_open_array(json, "shape");
    json_count(json, NULL, 1);
    json_count(json, NULL, shape->heads);
    json_count(json, NULL, shape->tokens);
    json_count(json, NULL, shape->head_dim);
    json_close_array(json);
}

static void row_json(struct json *json, const struct synthetic_shape *shape,
                     const struct synthetic_row *row) {
    json_open_object(json, NULL);
    shape_json(json, shape);
    json_integer(json, "level", row->level);
    json_string(json, "tensors", row->both ? "kv" : "one");
    json_count(json, "bytes_16bit", row->bytes_16bit);
    json_count(json, "pool_bytes", row->pool_bytes);
    json_integer(json, "saved_bytes", (int64_t)(row->bytes_16bit - row->pool_bytes));
    json_real(json, "ratio", ratio_of(row));
    if (row->both) {
        json_real(json, "snr_k_db", row->snr_k_db);
        json_real(json, "snr_v_db", row->snr_v_db);
    } else {
        json_real(json, "snr_db", row->snr_k_db);
        json_count(json, "writeup_bytes", shape->writeup_bytes);
        json_real(json, "writeup_ratio", writeup_ratio);
    }
    json_close_object(json);
}

void synthetic_print_json(const struct synthetic_report *report) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_count(&json, "seed", report->seed);
    json_string(&json, "generator", MODEL_VALUES_TEXT);
    json_string(&json, "footnote", footnote);
    json_open_array(&json, "rows");
    for (int i = 0; i < SYNTHETIC_SHAPES; i++)
        for (int j = 0; j < SYNTHETIC_ROWS; j++)
            row_json(&json, &synthetic_shapes[i], &report->rows[i][j]);
    json_close_array(&json);
    json_close_object(&json);
    json_end(&json);
}
