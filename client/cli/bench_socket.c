/* A quick look at a daemon: is this installation as fast as it should be? */
#include "client/cli/bench.h"
#include "client/cli/progress.h"
#include "client/cli/show.h"
#include "client/cli/temporary.h"
#include "client/cli/words.h"

#include <stdlib.h>
#include <time.h>

enum { LEVEL_DEFAULT = 3, SECONDS_DEFAULT = 3, PINGS_MAX = 1 << 20, ROUNDS_MAX = 1 << 12 };

/* Durations in nanoseconds. */
struct samples {
    uint64_t *ns;
    size_t count, max;
};

struct socket_report {
    int level;
    uint64_t bytes; /* of a round's values at 16 bits */
    struct samples pings, appends, fetches;
};

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool samples_init(struct samples *samples, size_t max) {
    *samples = (struct samples){.ns = malloc(max * sizeof *samples->ns), .max = max};
    return samples->ns;
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Sorts them. There is at least one. */
static double quantile_ns(struct samples *samples, double share) {
    qsort(samples->ns, samples->count, sizeof *samples->ns, ascending);
    return (double)samples->ns[(size_t)(share * (double)(samples->count - 1))];
}

static double gb_per_second(const struct socket_report *report, struct samples *samples) {
    return (double)report->bytes / quantile_ns(samples, 0.5);
}

static int measure_pings(struct kvq_client *client, uint64_t until_ns, struct samples *pings) {
    int error = KVQ_OK;
    for (uint64_t start = now_ns(); !error && start < until_ns && pings->count < pings->max;) {
        error = progress_interrupted() ? KVQ_CANCELLED : kvq_ping(client);
        uint64_t end = now_ns();
        pings->ns[pings->count++] = end - start;
        start = end;
    }
    return error;
}

static bool go_on(void *context, uint64_t bytes) {
    (void)context;
    (void)bytes;
    return !progress_interrupted();
}

static int fetch(struct kvq_client *client, const struct kvq_session_state *state,
                 const struct bench_values *target) {
    struct kvq_fetch_options options = {
        .size = sizeof options, .k.block = target->k, .v.block = target->v, .progress = go_on};
    return kvq_fetch(client, state, &options, NULL);
}

/* Stores the values, fetches them into their own place, and deletes the session. */
static int measure_round(struct kvq_client *client, const struct bench_values *values,
                         struct socket_report *report) {
    struct kvq_session_state state;
    uint64_t start = now_ns();
    int error = bench_store(client, values, report->level, &state);
    if (error)
        return error;
    uint64_t stored = now_ns();
    error = fetch(client, &state, values);
    if (!error) {
        report->appends.ns[report->appends.count++] = stored - start;
        report->fetches.ns[report->fetches.count++] = now_ns() - stored;
    }
    remove_session(client, state.session);
    return error;
}

static int measure_rounds(struct kvq_client *client, uint64_t until_ns,
                          const struct bench_values *values, struct socket_report *report) {
    int error = KVQ_OK;
    do {
        error = progress_interrupted() ? KVQ_CANCELLED : measure_round(client, values, report);
    } while (!error && now_ns() < until_ns && report->fetches.count < report->fetches.max);
    return error;
}

static void print_json(const char *socket, struct socket_report *report) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "socket", socket);
    json_count(&json, "pings", report->pings.count);
    json_real(&json, "ping_p50_us", quantile_ns(&report->pings, 0.5) / 1000);
    json_real(&json, "ping_p99_us", quantile_ns(&report->pings, 0.99) / 1000);
    show_level_json(&json, "level", report->level);
    json_count(&json, "rounds", report->fetches.count);
    json_count(&json, "bytes", report->bytes);
    json_real(&json, "append_gb_per_second", gb_per_second(report, &report->appends));
    json_real(&json, "fetch_gb_per_second", gb_per_second(report, &report->fetches));
    json_close_object(&json);
    json_end(&json);
}

static void print_text(const char *socket, struct socket_report *report) {
    char pings[WORD_BYTES], bytes[WORD_BYTES];
    printf("socket      %s\n", socket);
    printf("ping        p50 %.1f us, p99 %.1f us, of %s\n", quantile_ns(&report->pings, 0.5) / 1000,
           quantile_ns(&report->pings, 0.99) / 1000, count_text(report->pings.count, pings));
    printf("append      %.2f GB/s at level %s, coded before the reply\n",
           gb_per_second(report, &report->appends), level_name(report->level));
    printf("fetch       %.2f GB/s\n", gb_per_second(report, &report->fetches));
    printf("            medians of %zu rounds of %s, counted at 16 bits a value, as float16\n",
           report->fetches.count, bytes_text(report->bytes, bytes));
}

static enum exit_status measure(struct kvq_client *client, uint64_t seconds,
                                struct bench_values *values, struct socket_report *report) {
    if (!samples_init(&report->pings, PINGS_MAX) || !samples_init(&report->appends, ROUNDS_MAX) ||
        !samples_init(&report->fetches, ROUNDS_MAX)) {
        complain("no memory");
        return EXIT_FAILED;
    }
    if (!bench_values_draw(values, BENCH_SEED))
        return EXIT_FAILED;
    report->bytes = bench_values_bytes(values);
    uint64_t start = now_ns(), all_ns = seconds * 1000000000;
    int error = measure_pings(client, start + all_ns / 3, &report->pings);
    if (!error)
        error = measure_rounds(client, start + all_ns, values, report);
    return error ? report_failure(client, error) : EXIT_DONE;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    struct bench_values values = {.geometry = {.layers = 8,
                                               .heads = 8,
                                               .head_dim_k = 128,
                                               .head_dim_v = 128,
                                               .dtype = KVQ_F16},
                                  .tokens = 1024};
    struct socket_report report = {.level = LEVEL_DEFAULT};
    if (options->given & OPTION_LEVEL)
        report.level = options->level;
    enum exit_status status = connect_client(options, &client);
    progress_catch_signals();
    if (status == EXIT_DONE)
        status =
            measure(client, options->given & OPTION_SECONDS ? options->seconds : SECONDS_DEFAULT,
                    &values, &report);
    if (status == EXIT_DONE && options->given & OPTION_JSON)
        print_json(kvq_client_socket(client), &report);
    else if (status == EXIT_DONE)
        print_text(kvq_client_socket(client), &report);
    bench_values_free(&values);
    free(report.pings.ns);
    free(report.appends.ns);
    free(report.fetches.ns);
    return status;
}

const struct command bench_socket_command = {
    .name = "bench socket",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON | OPTION_SECONDS | OPTION_LEVEL,
    .summary = "see how fast the daemon answers",
    .help = "Asks the daemon for answers, then stores and fetches a session of 8 layers, 8 heads, "
            "head_dim 128 and 1024 tokens at level 3 or --level, over one connection, and says "
            "how long an answer takes and how many bytes of K and V a second it takes and gives. "
            "It shares the processors with whatever else runs. " BENCH_REMOVAL,
    .run = run,
};
