#include "tests/bench/rounds.h"

#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"

#include <math.h>
#include <pthread.h>

enum operation { APPEND, FETCH, CLEAR };

struct contest {
    struct workload *workload;
    const struct contender *contenders;
    size_t count;
    uint32_t connections;
    void *connection[CONTENDERS_MAX][CONNECTIONS_MAX];
};

/* One connection's part of a sample. */
struct part {
    const struct contest *contest;
    size_t contender;
    uint32_t index;
    enum operation operation;
    pthread_barrier_t *start;
    pthread_t thread;
};

static void *run_part(void *argument) {
    const struct part *part = argument;
    const struct contest *contest = part->contest;
    const struct contender *contender = &contest->contenders[part->contender];
    void *connection = contest->connection[part->contender][part->index];
    pthread_barrier_wait(part->start);
    for (uint32_t s = part->index; s < contest->workload->sessions; s += contest->connections) {
        if (part->operation == APPEND)
            contender->append(connection, contest->workload, s);
        else if (part->operation == FETCH)
            contender->fetch(connection, contest->workload, s);
        else
            contender->clear(connection, s);
    }
    return NULL;
}

static double sample(const struct contest *contest, size_t contender, enum operation operation) {
    struct part parts[CONNECTIONS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, contest->connections + 1);
    for (uint32_t i = 0; i < contest->connections; i++) {
        parts[i] = (struct part){contest, contender, i, operation, &start, 0};
        if (pthread_create(&parts[i].thread, NULL, run_part, &parts[i]))
            fail_because("a thread could not be started");
    }
    double begin = clock_seconds();
    pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < contest->connections; i++)
        pthread_join(parts[i].thread, NULL);
    double seconds = clock_seconds() - begin;
    pthread_barrier_destroy(&start);
    return seconds;
}

static struct contender_memory memory_of(const struct contest *contest, size_t contender) {
    if (!contest->contenders[contender].memory)
        return (struct contender_memory){NAN, NAN};
    return contest->contenders[contender].memory(contest->connection[contender][0]);
}

static double append(const struct contest *contest, size_t contender) {
    return sample(contest, contender, APPEND);
}

static double fetch(const struct contest *contest, size_t contender) {
    workload_spoil_targets(contest->workload);
    double seconds = sample(contest, contender, FETCH);
    workload_verify(contest->workload, contest->contenders[contender].exact,
                    contest->contenders[contender].name);
    return seconds;
}

static void clear(const struct contest *contest, size_t contender) {
    if (contest->contenders[contender].clear)
        sample(contest, contender, CLEAR);
}

/* What the workload adds to a contender's memory. Where it can be cleared that is done before: what
 * the first append leaves behind, such as buffers, is no session's. */
static struct contender_memory rehearse_append(const struct contest *contest, size_t contender,
                                               struct rounds_result *result) {
    struct contender_memory before = memory_of(contest, contender);
    result->first_append_seconds = append(contest, contender);
    if (contest->contenders[contender].clear) {
        clear(contest, contender);
        before = memory_of(contest, contender);
        append(contest, contender);
    }
    struct contender_memory after = memory_of(contest, contender);
    return (struct contender_memory){after.used_bytes - before.used_bytes,
                                     after.rss_bytes - before.rss_bytes};
}

static void rehearse(const struct contest *contest, struct rounds_result *results) {
    for (size_t c = 0; c < contest->count; c++) {
        struct rounds_result first = {0};
        first.memory = rehearse_append(contest, c, &first);
        first.first_fetch_seconds = fetch(contest, c);
        clear(contest, c);
        if (results[c].count == 0)
            results[c] = first;
    }
}

static void play(const struct contest *contest, struct rounds_result *results) {
    for (size_t c = 0; c < contest->count; c++)
        results[c].append_seconds[results[c].count] = append(contest, c);
    for (size_t c = 0; c < contest->count; c++)
        results[c].fetch_seconds[results[c].count++] = fetch(contest, c);
    for (size_t c = 0; c < contest->count; c++)
        clear(contest, c);
}

void rounds_run(struct workload *workload, const struct contender *contenders, size_t count,
                uint32_t connections, size_t rounds, struct rounds_result *results) {
    struct contest contest = {workload, contenders, count, connections, {{0}}};
    if (count > CONTENDERS_MAX || connections > workload->sessions ||
        rounds + results[0].count > ROUNDS_MAX)
        fail_because("too many contenders, connections or rounds");
    for (size_t c = 0; c < count; c++)
        for (uint32_t i = 0; i < connections; i++)
            contest.connection[c][i] = contenders[c].connect(contenders[c].context);
    rehearse(&contest, results);
    for (size_t round = 0; round < rounds; round++)
        play(&contest, results);
    for (size_t c = 0; c < count; c++)
        for (uint32_t i = 0; i < connections; i++)
            contenders[c].disconnect(contest.connection[c][i]);
}

static void print_line(const struct workload *workload, const struct contender *contender,
                       const char *transport, uint32_t connections, const char *operation,
                       double first_seconds, const double *seconds,
                       const struct rounds_result *result) {
    json_begin("throughput");
    json_string("contender", contender->name);
    json_string("variant", contender->variant);
    json_string("level", contender->level);
    json_string("shape", workload->shape);
    json_string("transport", transport);
    json_number("connections", connections);
    json_string("operation", operation);
    json_number("bytes", (double)workload->sessions * (double)workload->session_bytes);
    json_number("first_seconds", first_seconds);
    json_numbers("seconds", seconds, result->count);
    json_number("used_bytes", result->memory.used_bytes);
    json_number("rss_bytes", result->memory.rss_bytes);
    json_end();
}

void rounds_print(const struct workload *workload, const struct contender *contender,
                  const char *transport, uint32_t connections, const struct rounds_result *result) {
    print_line(workload, contender, transport, connections, "append", result->first_append_seconds,
               result->append_seconds, result);
    print_line(workload, contender, transport, connections, "fetch", result->first_fetch_seconds,
               result->fetch_seconds, result);
}
