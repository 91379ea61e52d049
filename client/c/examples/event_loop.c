/* Two clients in one loop: each appends to a session of its own, fetches it and deletes it.
 * Usage: event_loop [SOCKET] */
#include "client/c/kvq.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 4, TOKENS = 500, HEADS = 2, HEAD_DIM = 64, WORKERS = 2 };

typedef uint16_t values[LAYERS][TOKENS][HEADS][HEAD_DIM];

enum stage { CONNECT, OPEN, APPEND, FETCH, DELETE, DONE };

/* What the library is given a pointer to stays here until the call has its result. */
struct worker {
    char session[32];
    enum stage stage;
    struct kvq_client *client;
    struct kvq_session_state state;
    values k, v, k_back, v_back;
};

/* Starts the stage's call. Its options may go out of scope: they are read before it returns. */
static int begin(struct worker *worker, const char *socket) {
    static const struct kvq_geometry geometry = {.layers = LAYERS,
                                                 .heads = HEADS,
                                                 .head_dim_k = HEAD_DIM,
                                                 .head_dim_v = HEAD_DIM,
                                                 .dtype = KVQ_F16};
    struct kvq_connect_options connect = {
        .size = sizeof connect, .socket = socket, .non_blocking = true};
    struct kvq_open_options open = {.size = sizeof open,
                                    .session = worker->session,
                                    .model = "example-model",
                                    .geometry = &geometry,
                                    .has_level = true,
                                    .level = KVQ_LEVEL_EXACT};
    struct kvq_append_options append = {.size = sizeof append,
                                        .first = KVQ_AT_END,
                                        .tokens = TOKENS,
                                        .k.block = worker->k,
                                        .v.block = worker->v};
    struct kvq_fetch_options fetch = {
        .size = sizeof fetch, .k.block = worker->k_back, .v.block = worker->v_back};
    switch (worker->stage) {
    case CONNECT:
        return kvq_connect(&connect, &worker->client);
    case OPEN:
        return kvq_open(worker->client, &open, &worker->state);
    case APPEND:
        return kvq_append(worker->client, &worker->state, &append);
    case FETCH:
        return kvq_fetch(worker->client, &worker->state, &fetch, NULL);
    case DELETE:
        return kvq_delete(worker->client, worker->session, NULL);
    case DONE:
        break;
    }
    return KVQ_OK;
}

/* Takes a call's result, and begins calls until one has to wait. */
static int go_on(struct worker *worker, const char *socket, int error) {
    while (error == KVQ_OK && worker->stage != DONE) {
        worker->stage++;
        error = begin(worker, socket);
    }
    if (error && error != KVQ_AGAIN)
        fprintf(stderr, "%s: %s\n", worker->session,
                worker->client ? kvq_client_message(worker->client) : kvq_error_sentence(error));
    return error;
}

/* One turn of the loop; false once nobody has anything to do. */
static bool turn(struct worker *workers, int errors[WORKERS], const char *socket) {
    struct pollfd pollers[WORKERS];
    int timeout_ms = -1;
    bool waiting = false;
    for (int i = 0; i < WORKERS; i++) {
        bool waits = errors[i] == KVQ_AGAIN;
        pollers[i] = (struct pollfd){.fd = -1};
        if (!waits)
            continue;
        int left_ms = kvq_client_timeout_ms(workers[i].client);
        if (left_ms >= 0 && (timeout_ms < 0 || left_ms < timeout_ms))
            timeout_ms = left_ms;
        pollers[i].fd = kvq_client_fd(workers[i].client);
        pollers[i].events = kvq_client_events(workers[i].client);
        waiting = true;
    }
    if (!waiting)
        return false;
    (void)poll(pollers, WORKERS, timeout_ms);
    for (int i = 0; i < WORKERS; i++)
        if (errors[i] == KVQ_AGAIN)
            errors[i] = go_on(&workers[i], socket, kvq_step(workers[i].client));
    return true;
}

int main(int argc, char **argv) {
    static struct worker workers[WORKERS];
    const char *socket = argc > 1 ? argv[1] : NULL;
    int errors[WORKERS], failures = 0;
    for (int i = 0; i < WORKERS; i++) {
        snprintf(workers[i].session, sizeof workers[i].session, "event-loop %d", i);
        for (size_t j = 0; j < sizeof(values) / sizeof(uint16_t); j++) {
            ((uint16_t *)workers[i].k)[j] = (uint16_t)(0x3000 + j % 1000);
            ((uint16_t *)workers[i].v)[j] = (uint16_t)(0xb000 + j % 999);
        }
        errors[i] = go_on(&workers[i], socket, begin(&workers[i], socket));
    }
    while (turn(workers, errors, socket))
        ;
    for (int i = 0; i < WORKERS; i++) {
        bool same = memcmp(workers[i].k, workers[i].k_back, sizeof(values)) == 0 &&
                    memcmp(workers[i].v, workers[i].v_back, sizeof(values)) == 0;
        printf("%s: %s\n", workers[i].session, same ? "the same, bit for bit" : "not the same");
        failures += errors[i] || !same;
        kvq_close(workers[i].client);
    }
    return failures > 0;
}
