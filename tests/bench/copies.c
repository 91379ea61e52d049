#include "tests/bench/copies.h"

#include "tests/bench/json_line.h"
#include "tests/bench/rounds.h"
#include "tests/bench/streaming_copy.h"

#include <stdint.h>
#include <string.h>

static void *no_connection(void *context) {
    return context;
}

static void no_disconnection(void *connection) {
    (void)connection;
}

static void nothing(void *connection, const struct workload *workload, uint32_t session) {
    (void)connection;
    (void)workload;
    (void)session;
}

static void fetch_memcpy(void *connection, const struct workload *workload, uint32_t session) {
    (void)connection;
    memcpy(workload->target[session], workload->source[session], workload->session_bytes);
}

#ifdef __SSE2__
static void fetch_streaming(void *connection, const struct workload *workload, uint32_t session) {
    (void)connection;
    streaming_copy(workload->target[session], workload->source[session], workload->session_bytes);
}
#endif

static struct contender copy_contender(const char *name,
                                       void (*fetch)(void *, const struct workload *, uint32_t)) {
    return (struct contender){.name = name,
                              .variant = "",
                              .level = "",
                              .exact = true,
                              .connect = no_connection,
                              .disconnect = no_disconnection,
                              .append = nothing,
                              .fetch = fetch};
}

void copies_measure(struct workload *workload, uint32_t threads, size_t rounds) {
    struct contender contenders[] = {
        copy_contender("memcpy", fetch_memcpy),
#ifdef __SSE2__
        copy_contender("streaming", fetch_streaming),
#endif
    };
    enum { COUNT = sizeof contenders / sizeof *contenders };
    static struct rounds_result results[COUNT];
    memset(results, 0, sizeof results);
    rounds_run(workload, contenders, COUNT, threads, rounds, results);
    for (size_t i = 0; i < COUNT; i++) {
        json_begin("copy");
        json_string("contender", contenders[i].name);
        json_number("threads", threads);
        json_number("bytes", (double)workload->sessions * (double)workload->session_bytes);
        json_numbers("seconds", results[i].fetch_seconds, results[i].count);
        json_end();
    }
}
