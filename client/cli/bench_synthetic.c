/* What K and V like a model's take at some levels, in shapes like those of known workloads. */
#include "client/cli/bench_synthetic.h"

#include "client/cli/bench.h"
#include "client/cli/model_values.h"
#include "client/cli/progress.h"
#include "client/cli/temporary.h"

#include <stdio.h>
#include <unistd.h>

const struct synthetic_shape synthetic_shapes[SYNTHETIC_SHAPES] = {
    {"chat-turn", 8, 64, 512, 512 << 10},      {"code-assist", 16, 64, 1024, 1 << 20},
    {"rag-summary", 16, 64, 2048, 2 << 20},    {"tool-agent", 32, 128, 2048, 8 << 20},
    {"long-context", 32, 128, 4096, 16 << 20}, {"tiny-firmware", 4, 64, 256, 64 << 10},
};
static const int levels[SYNTHETIC_LEVELS] = {2, 3, 4};

static int measure(struct kvq_client *client, const struct bench_values *values, int level,
                   struct synthetic_row *row) {
    struct kvq_session_state state;
    struct kvq_session_info info;
    int error = bench_store(client, values, level, &state);
    if (error)
        return error;
    error = kvq_info(client, state.session, &info);
    if (!error) {
        row->level = level;
        row->bytes_16bit = bench_values_bytes(values);
        row->pool_bytes = info.stored_bytes;
        row->snr_k_db = info.snr_k_db;
        row->snr_v_db = info.snr_v_db;
    }
    remove_session(client, state.session);
    return error;
}

static void show_progress(const struct synthetic_shape *shape) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s", shape ? shape->name : "");
}

/* The rows of a shape: one tensor, then K and V, at each level. */
static enum exit_status measure_shape(struct kvq_client *client,
                                      const struct synthetic_shape *shape, uint64_t seed,
                                      struct synthetic_row *rows) {
    struct bench_values values = {.geometry = {.layers = 1,
                                               .heads = shape->heads,
                                               .head_dim_k = shape->head_dim,
                                               .head_dim_v = shape->head_dim,
                                               .dtype = KVQ_F16},
                                  .tokens = shape->tokens};
    if (!bench_values_draw(&values, seed))
        return EXIT_FAILED;
    int error = KVQ_OK;
    for (int i = 0; !error && i < SYNTHETIC_ROWS; i++) {
        rows[i].both = i >= SYNTHETIC_LEVELS;
        values.geometry.head_dim_v = rows[i].both ? shape->head_dim : 0;
        error = measure(client, &values, levels[i % SYNTHETIC_LEVELS], &rows[i]);
        if (!error && progress_interrupted())
            error = KVQ_CANCELLED;
    }
    bench_values_free(&values);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    struct synthetic_report report = {.seed = BENCH_SEED};
    if (options->given & OPTION_SEED)
        report.seed = options->seed;
    progress_catch_signals();
    for (int i = 0; status == EXIT_DONE && i < SYNTHETIC_SHAPES; i++) {
        show_progress(&synthetic_shapes[i]);
        status = measure_shape(client, &synthetic_shapes[i], report.seed, report.rows[i]);
        show_progress(NULL);
    }
    if (status != EXIT_DONE)
        return status;
    if (options->given & OPTION_JSON)
        synthetic_print_json(&report);
    else
        synthetic_print_table(&report);
    return EXIT_DONE;
}

const struct command bench_synthetic_command = {
    .name = "bench synthetic",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_SEED,
    .summary = "see what values like a model's take",
    .help = "Stores drawn values in six shapes at levels 2, 3 and 4, one tensor by itself and K "
            "and V together, and says what they take in the pool, everything counted, and what "
            "they lose. " BENCH_REMOVAL "\n\n" MODEL_VALUES_TEXT,
    .run = run,
};
