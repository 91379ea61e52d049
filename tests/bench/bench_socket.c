/* Append and fetch through libkvq and a daemon, against a raw store of the same bytes.
 *
 *   bench_socket KVQUANTD [--rounds N] [--any-cpu] [--memory SIZE]
 *
 * For each geometry and level the sessions take turns: raw append, append, raw append, append, ...,
 * then fetches likewise, for N rounds (default 3). Told are medians, in GB/s of 16-bit data, and
 * what they are of the raw store's, which has the system's send buffer or (1M) a larger one, each
 * sample against its neighbour. Appends settle: the reply comes when all is coded at the level.
 * Sessions take hundreds of MiB together, so that no cache holds them. The client has a processor
 * of its own, daemon and raw store have the others (--any-cpu: all run anywhere).
 */
#include "client/c/kvq.h"
#include "tests/bench/kv_values.h"
#include "tests/bench/placement.h"
#include "tests/bench/raw_store.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SESSIONS_MAX = 16, ROUNDS_MAX = 50, SAMPLES_MAX = SESSIONS_MAX * ROUNDS_MAX };
enum { LARGE_SEND_BUFFER_BYTES = 1 << 20, START_SECONDS = 20 };

struct options {
    const char *daemon, *memory;
    unsigned rounds;
    int cpu; /* the client's, -1: any */
};

struct shape {
    const char *name;
    struct kvq_geometry geometry;
    uint32_t tokens, sessions;
};

static const struct shape shapes[] = {
    {"30 layers, 3 heads, 64 dims, 1,024 tokens",
     {.layers = 30, .heads = 3, .head_dim_k = 64, .head_dim_v = 64, .dtype = KVQ_F16},
     1024,
     12},
    {"32 layers, 8 heads, 128 dims, 512 tokens",
     {.layers = 32, .heads = 8, .head_dim_k = 128, .head_dim_v = 128, .dtype = KVQ_F16},
     512,
     5},
};

static const struct {
    const char *name;
    int level;
} levels[] = {{"fast8", KVQ_LEVEL_FAST8}, {"level 3", 3}, {"exact", KVQ_LEVEL_EXACT}};

struct samples {
    double seconds[SAMPLES_MAX];
    size_t count;
};

enum { RAW, RAW_LARGE, KVQ, WAYS };

struct bench {
    const struct shape *shape;
    struct kvq_client *client;
    struct raw_store raw[2];
    int level;
    size_t part_bytes; /* of K or of V, all layers; a session has two */
    char *source[SESSIONS_MAX];
    char *target;
    struct samples append[WAYS], fetch[WAYS];
};

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static void check(const struct bench *bench, int error) {
    if (!error)
        return;
    fprintf(stderr, "%s: %s\n", kvq_error_name(error), kvq_client_message(bench->client));
    exit(EXIT_FAILURE);
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void add(struct samples *samples, double start_seconds) {
    samples->seconds[samples->count++] = now_seconds() - start_seconds;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t count) {
    static double sorted[SAMPLES_MAX];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare);
    return sorted[count / 2];
}

/* What kvq is of the raw store: each sample against its neighbour in time, so that a machine that
 * is slower for a while is so for both. */
static double median_fraction(const struct samples *raw, const struct samples *kvq) {
    static double fractions[SAMPLES_MAX];
    for (size_t i = 0; i < kvq->count; i++)
        fractions[i] = raw->seconds[i] / kvq->seconds[i];
    return median(fractions, kvq->count);
}

/* Memory whose pages are there already. */
static char *touched(size_t bytes) {
    char *memory = malloc(bytes);
    if (!memory)
        fail("malloc");
    return memset(memory, 1, bytes);
}

static void fill_sources(struct bench *bench) {
    const struct kvq_geometry *geometry = &bench->shape->geometry;
    size_t channels = geometry->heads * geometry->head_dim_k;
    size_t layer_bytes = bench->shape->tokens * channels * 2;
    bench->part_bytes = geometry->layers * layer_bytes;
    bench->target = touched(2 * bench->part_bytes);
    for (uint32_t s = 0; s < bench->shape->sessions; s++) {
        bench->source[s] = touched(2 * bench->part_bytes);
        for (uint32_t l = 0; l < 2 * geometry->layers; l++)
            kv_values_fill((uint16_t *)(bench->source[s] + l * layer_bytes), bench->shape->tokens,
                           channels, l < geometry->layers ? 2.0f : 0.2f, 1000 * s + l);
    }
}

static void name_session(char name[32], uint32_t session) {
    snprintf(name, 32, "bench %u", session);
}

static void append(struct bench *bench, uint32_t session) {
    char name[32];
    struct kvq_session_state state;
    name_session(name, session);
    struct kvq_open_options open = {.size = sizeof open,
                                    .session = name,
                                    .model = "bench",
                                    .geometry = &bench->shape->geometry,
                                    .has_level = true,
                                    .level = bench->level,
                                    .mode = KVQ_OPEN_NEW};
    check(bench, kvq_open(bench->client, &open, &state));
    struct kvq_append_options options = {.size = sizeof options,
                                         .tokens = bench->shape->tokens,
                                         .k.block = bench->source[session],
                                         .v.block = bench->source[session] + bench->part_bytes,
                                         .settle = true};
    double start = now_seconds();
    check(bench, kvq_append(bench->client, &state, &options));
    add(&bench->append[KVQ], start);
}

static void fetch(struct bench *bench, uint32_t session) {
    char name[32];
    struct kvq_session_state state;
    name_session(name, session);
    check(bench, kvq_find(bench->client, name, &state));
    struct kvq_fetch_options options = {.size = sizeof options,
                                        .k.block = bench->target,
                                        .v.block = bench->target + bench->part_bytes};
    double start = now_seconds();
    check(bench, kvq_fetch(bench->client, &state, &options, NULL));
    add(&bench->fetch[KVQ], start);
}

/* At exact every byte, at the others the sinks, which are exact at any level. */
static void verify(const struct bench *bench, uint32_t session) {
    const struct kvq_geometry *geometry = &bench->shape->geometry;
    size_t bytes = bench->level == KVQ_LEVEL_EXACT
                       ? 2 * bench->part_bytes
                       : (size_t)4 * geometry->heads * geometry->head_dim_k * 2;
    if (memcmp(bench->source[session], bench->target, bytes)) {
        fprintf(stderr, "session %u came back with other values\n", session);
        exit(EXIT_FAILURE);
    }
}

static void one_round(struct bench *bench) {
    char name[32];
    for (uint32_t s = 0; s < bench->shape->sessions; s++) {
        for (int raw = 0; raw < 2; raw++) {
            double start = now_seconds();
            raw_store_append(&bench->raw[raw], s, bench->source[s]);
            add(&bench->append[raw], start);
        }
        append(bench, s);
    }
    for (uint32_t s = 0; s < bench->shape->sessions; s++) {
        for (int raw = 0; raw < 2; raw++) {
            double start = now_seconds();
            raw_store_fetch(&bench->raw[raw], s, bench->target);
            add(&bench->fetch[raw], start);
        }
        fetch(bench, s);
        verify(bench, s);
    }
    for (uint32_t s = 0; s < bench->shape->sessions; s++) {
        name_session(name, s);
        check(bench, kvq_delete(bench->client, name, NULL));
    }
}

static void print_row(const struct bench *bench, const char *level, const char *what,
                      const struct samples ways[WAYS]) {
    double gb = 2e-9 * (double)bench->part_bytes;
    printf("%-8s %-7s", level, what);
    for (int way = 0; way < WAYS; way++)
        printf(" %8.2f", gb / median(ways[way].seconds, ways[way].count));
    printf(" %8.3f %10.3f\n", median_fraction(&ways[RAW], &ways[KVQ]),
           median_fraction(&ways[RAW_LARGE], &ways[KVQ]));
    fflush(stdout);
}

static void run_shape(struct kvq_client *client, const struct shape *shape,
                      const struct options *options) {
    static struct bench bench;
    bench = (struct bench){.shape = shape, .client = client};
    fill_sources(&bench);
    size_t piece_bytes = (size_t)128 * shape->geometry.heads * shape->geometry.head_dim_k * 2;
    for (int raw = 0; raw < 2; raw++)
        raw_store_start(&bench.raw[raw], shape->sessions, 2 * bench.part_bytes, piece_bytes,
                        raw ? LARGE_SEND_BUFFER_BYTES : 0, options->cpu);
    printf("\n%s: %u sessions of %.1f MiB, pages of %zu KiB\n", shape->name, shape->sessions,
           (double)bench.part_bytes / (1 << 19), piece_bytes >> 10);
    printf("%-8s %-7s %8s %8s %8s %8s %10s\n", "", "", "raw", "raw 1M", "kvq", "kvq/raw",
           "kvq/raw 1M");
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        bench.level = levels[l].level;
        memset(bench.append, 0, sizeof bench.append);
        memset(bench.fetch, 0, sizeof bench.fetch);
        for (unsigned round = 0; round < options->rounds; round++)
            one_round(&bench);
        print_row(&bench, levels[l].name, "append", bench.append);
        print_row(&bench, levels[l].name, "fetch", bench.fetch);
    }
    raw_store_stop(&bench.raw[0]);
    raw_store_stop(&bench.raw[1]);
    for (uint32_t s = 0; s < shape->sessions; s++)
        free(bench.source[s]);
    free(bench.target);
}

static pid_t start_daemon(const struct options *options, const char *path) {
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    placement_leave(options->cpu);
    execl(options->daemon, options->daemon, "--socket", path, "--memory", options->memory,
          (char *)NULL);
    perror(options->daemon);
    _exit(EXIT_FAILURE);
}

static struct kvq_client *connect_to(const char *path) {
    struct kvq_connect_options options = {.size = sizeof options, .socket = path};
    double end = now_seconds() + START_SECONDS;
    for (;;) {
        struct kvq_client *client;
        int error = kvq_connect(&options, &client);
        if (!error)
            return client;
        if (now_seconds() > end) {
            fprintf(stderr, "%s\n", client ? kvq_client_message(client) : "no memory");
            exit(EXIT_FAILURE);
        }
        kvq_close(client);
        usleep(20000);
    }
}

static struct options parse(int argc, char **argv) {
    struct options options = {
        .memory = "2G", .rounds = 3, .cpu = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 0 : -1};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--any-cpu"))
            options.cpu = -1;
        else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
            options.rounds = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--memory") && i + 1 < argc)
            options.memory = argv[++i];
        else if (argv[i][0] != '-' && !options.daemon)
            options.daemon = argv[i];
        else
            options.rounds = 0;
    }
    if (!options.daemon || options.rounds < 1 || options.rounds > ROUNDS_MAX) {
        fprintf(stderr,
                "usage: bench_socket KVQUANTD [--rounds 1..%d] [--any-cpu] [--memory SIZE]\n",
                ROUNDS_MAX);
        exit(2);
    }
    return options;
}

int main(int argc, char **argv) {
    struct options options = parse(argc, argv);
    char folder[] = "/tmp/bench_socket.XXXXXX", path[sizeof folder + 16];
    if (!mkdtemp(folder))
        fail("mkdtemp");
    snprintf(path, sizeof path, "%s/socket", folder);
    pid_t daemon = start_daemon(&options, path);
    placement_take(options.cpu);
    struct kvq_client *client = connect_to(path);
    printf("GB/s of 16-bit data, medians of %u rounds; processors: %s\n", options.rounds,
           options.cpu < 0 ? "any" : "0 the client, the others daemon and raw stores");
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        run_shape(client, &shapes[s], &options);
    kvq_close(client);
    kill(daemon, SIGTERM);
    waitpid(daemon, NULL, 0);
    rmdir(folder);
    return EXIT_SUCCESS;
}
