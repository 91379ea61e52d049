/* Fetch: what is wanted, and how it is shared out to connections. */
#include "client/c/client.h"

#include <stdio.h>
#include <stdlib.h>

/* From where on one more connection is worth it: on two processors that daemon and client share, 64
 * MiB over two took 0.65 of the time over one at exact, 0.77 at fast8 and 0.64 at level 2; over
 * four it was no quicker (tests/bench/bench_transfer). */
enum { RANGE_BYTES_MIN = 16 << 20 };

/* ---- What is wanted ---- */

static struct kvq_fetch_part fetch_part(const struct kvq_fetch *fetch,
                                        const struct kvq_target *target, uint32_t head_dim) {
    struct kvq_strides given = {target->layer_stride, target->token_stride, target->head_stride};
    size_t dim_bytes = head_dim * kvq_dtype_bytes(fetch->dtype);
    return (struct kvq_fetch_part){
        .wanted = (target->layers || target->block) && head_dim > 0,
        .target = *target,
        .strides = kvq_resolve_strides(given, fetch->end - fetch->first, fetch->heads, dim_bytes),
        .dim_bytes = dim_bytes,
    };
}

static int check_range(struct kvq_client *client, const struct kvq_fetch *fetch,
                       const struct kvq_geometry *geometry) {
    if (kvq_dtype_bytes(fetch->dtype) == 0 || geometry->heads == 0 || fetch->page_tokens == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "state was not filled by kvq_open or kvq_find");
    if (fetch->first > fetch->end)
        return kvq_fail(client, KVQ_ARGUMENT, "the range of tokens ends before it begins");
    if (fetch->first_layer >= fetch->end_layer || fetch->end_layer > geometry->layers)
        return kvq_fail(client, KVQ_ARGUMENT, "layers %u to %u are not among the model's %u",
                        fetch->first_layer, fetch->end_layer, geometry->layers);
    return KVQ_OK;
}

static int fetch_init(struct kvq_client *client, const struct kvq_session_state *state,
                      const struct kvq_fetch_options *options) {
    struct kvq_fetch *fetch = &client->call.fetch;
    const struct kvq_geometry *geometry = &state->geometry;
    *fetch = (struct kvq_fetch){
        .first = options->first,
        .end = options->end ? options->end : state->tokens,
        .if_version = options->if_version,
        .first_layer = options->first_layer,
        .end_layer = options->end_layer ? options->end_layer : geometry->layers,
        .heads = geometry->heads,
        .page_tokens = state->page_tokens,
        .dtype = options->dtype ? options->dtype : geometry->dtype,
        .progress = options->progress,
        .context = options->context,
    };
    snprintf(fetch->session, sizeof fetch->session, "%s", state->session);
    snprintf(fetch->model, sizeof fetch->model, "%s", state->model);
    int error = check_range(client, fetch, geometry);
    if (error)
        return error;
    fetch->parts[KVQ_K] = fetch_part(fetch, &options->k, geometry->head_dim_k);
    fetch->parts[KVQ_V] = fetch_part(fetch, &options->v, geometry->head_dim_v);
    if (!fetch->parts[KVQ_K].wanted && !fetch->parts[KVQ_V].wanted)
        return kvq_fail(client, KVQ_ARGUMENT, "neither K nor V is wanted, or the model has no V");
    const struct kvq_fetch_part *chosen = &fetch->parts[fetch->parts[KVQ_K].wanted ? KVQ_K : KVQ_V];
    fetch->layout = kvq_best_layout(chosen->strides, fetch->heads, chosen->dim_bytes);
    return KVQ_OK;
}

/* ---- Sharing it out ---- */

static uint64_t token_bytes(const struct kvq_fetch *fetch) {
    uint64_t row_bytes = 0;
    for (int part = KVQ_K; part <= KVQ_V; part++)
        row_bytes += fetch->parts[part].wanted ? fetch->parts[part].dim_bytes : 0;
    return row_bytes * fetch->heads * (fetch->end_layer - fetch->first_layer);
}

static size_t count_ranges(const struct kvq_client *client, const struct kvq_fetch *fetch) {
    if (fetch->on_one_connection)
        return 1;
    return kvq_connections_worth(client, fetch->end - fetch->first, fetch->page_tokens,
                                 token_bytes(fetch), RANGE_BYTES_MIN);
}

/* Where range i begins: no page is coded out twice. */
static uint64_t boundary(const struct kvq_fetch *fetch, size_t i) {
    if (i == 0)
        return fetch->first;
    if (i == fetch->range_count)
        return fetch->end;
    uint64_t share = (fetch->end - fetch->first) / fetch->range_count;
    uint64_t token = fetch->first + i * share;
    return token - token % fetch->page_tokens;
}

static int share_out(struct kvq_client *client) {
    struct kvq_fetch *fetch = &client->call.fetch;
    size_t layer_cursors = 2 * (size_t)(fetch->end_layer - fetch->first_layer);
    fetch->received_bytes = 0;
    fetch->range_count = count_ranges(client, fetch);
    kvq_use_connections(client, fetch->range_count);
    size_t count = fetch->range_count * layer_cursors;
    if (count > client->cursor_count) {
        uint64_t *cursors = realloc(client->cursors, count * sizeof *cursors);
        if (!cursors)
            return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
        client->cursors = cursors;
        client->cursor_count = count;
    }
    for (size_t i = 0; i < fetch->range_count; i++) {
        if (!client->connections[i])
            client->connections[i] = kvq_connection_new();
        if (!client->connections[i])
            return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
        fetch->ranges[i] = (struct kvq_fetch_range){
            .first = boundary(fetch, i),
            .end = boundary(fetch, i + 1),
            .cursors = client->cursors + i * layer_cursors,
        };
    }
    return KVQ_OK;
}

static void leave(struct kvq_client *client) {
    struct kvq_fetch *fetch = &client->call.fetch;
    for (size_t i = 0; i < fetch->range_count; i++) {
        struct kvq_connection *connection = client->connections[i];
        if (!connection || !connection->busy)
            continue;
        if (fetch->ranges[i].stage != KVQ_RANGE_DONE)
            kvq_leave(connection, fetch->ranges[i].request_id);
        connection->busy = false;
    }
}

/* ---- Putting it together ---- */

static void add_levels(struct kvq_fetch_result *sum, const struct kvq_fetch_result *result) {
    for (uint32_t i = 0; i < result->level_count; i++) {
        uint32_t at = 0;
        while (at < sum->level_count && sum->levels[at].level != result->levels[i].level)
            at++;
        if (at == KVQ_LEVELS)
            continue; /* more levels than there are, from a daemon of another time */
        if (at == sum->level_count)
            sum->levels[sum->level_count++].level = result->levels[i].level;
        sum->levels[at].tokens += result->levels[i].tokens;
    }
}

static void add_loss(struct kvq_loss *sum, const struct kvq_loss *loss) {
    sum->error += loss->error;
    sum->energy += loss->energy;
    sum->estimated = sum->estimated || loss->estimated;
}

static bool versions_agree(const struct kvq_fetch *fetch) {
    for (size_t i = 1; i < fetch->range_count; i++)
        if (fetch->ranges[i].result.version != fetch->ranges[0].result.version)
            return false;
    return true;
}

static int compare_levels(const void *a, const void *b) {
    int x = ((const struct kvq_level_tokens *)a)->level;
    int y = ((const struct kvq_level_tokens *)b)->level;
    return (x > y) - (x < y);
}

static void sum_up(const struct kvq_fetch *fetch, struct kvq_fetch_result *sum) {
    *sum = fetch->ranges[0].result;
    for (size_t i = 1; i < fetch->range_count; i++) {
        const struct kvq_fetch_result *result = &fetch->ranges[i].result;
        sum->tokens += result->tokens;
        sum->bytes += result->bytes;
        add_levels(sum, result);
        add_loss(&sum->k, &result->k);
        add_loss(&sum->v, &result->v);
    }
    if (fetch->range_count > 1)
        qsort(sum->levels, sum->level_count, sizeof *sum->levels, compare_levels);
}

/* ---- Running ---- */

/* KVQ_OK once all ranges are there; *failed: the range that an error is of. */
static int step_ranges(struct kvq_client *client, size_t *failed) {
    struct kvq_fetch *fetch = &client->call.fetch;
    int result = KVQ_OK;
    for (size_t i = 0; i < fetch->range_count; i++) {
        int error = kvq_fetch_range_step(client, client->connections[i], &fetch->ranges[i]);
        *failed = i;
        if (error && error != KVQ_AGAIN)
            return error;
        result = error ? error : result;
    }
    return result;
}

/* A further connection that the daemon does not take, or loses, is no reason to fail. */
static bool better_alone(int error, size_t failed) {
    return failed > 0 && (error == KVQ_CONNECTION_LOST || error == KVQ_CANNOT_CONNECT);
}

static int step(struct kvq_client *client) {
    enum { SHARE_OUT, RUN };
    struct kvq_fetch *fetch = &client->call.fetch;
    size_t failed = 0;
    for (;;) {
        int error = KVQ_OK;
        if (client->call.stage == SHARE_OUT)
            error = share_out(client);
        client->call.stage = RUN;
        if (!error)
            error = step_ranges(client, &failed);
        if (error == KVQ_AGAIN)
            return error;
        bool torn = !error && !versions_agree(fetch);
        if (error)
            leave(client);
        if (!torn && !better_alone(error, failed)) {
            if (!error && fetch->result)
                sum_up(fetch, fetch->result);
            return error;
        }
        fetch->on_one_connection = true;
        client->call.stage = SHARE_OUT;
    }
}

int kvq_fetch_run(struct kvq_client *client) {
    client->call.stage = 0;
    return kvq_run_call(client, step, leave);
}

int kvq_fetch(struct kvq_client *client, const struct kvq_session_state *state,
              const struct kvq_fetch_options *options, struct kvq_fetch_result *result) {
    struct kvq_fetch_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = fetch_init(client, state, &known);
    if (error)
        return error;
    struct kvq_fetch *fetch = &client->call.fetch;
    if (fetch->first == fetch->end) {
        if (result)
            *result = (struct kvq_fetch_result){.version = state->version};
        return KVQ_OK;
    }
    fetch->result = result;
    if (known.within_ms)
        client->call.miss_ns = kvq_now_ns() + known.within_ms * (int64_t)1000000;
    return kvq_fetch_run(client);
}
