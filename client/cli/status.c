#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/words.h"

#include <inttypes.h>
#include <math.h>

static double ratio_of(const struct kvq_stats *stats) {
    return stats->stored_bytes ? (double)stats->bytes_16bit / (double)stats->stored_bytes : NAN;
}

static void operations_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "requests");
    for (size_t i = 0; i < stats->operation_count; i++)
        json_count(json, stats->operations[i].operation, stats->operations[i].requests);
    json_close_object(json);
    json_open_object(json, "errors");
    for (size_t i = 0; i < stats->operation_count; i++)
        json_count(json, stats->operations[i].operation, stats->operations[i].errors);
    json_close_object(json);
}

static void print_json(const struct kvq_stats *stats) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "version", stats->version);
    json_count(&json, "pid", stats->pid);
    json_real(&json, "uptime_seconds", stats->uptime_seconds);
    json_open_array(&json, "sockets");
    for (size_t i = 0; i < stats->socket_count; i++)
        json_string(&json, NULL, stats->sockets[i]);
    json_close_array(&json);
    json_count(&json, "connections", stats->connections);
    json_open_object(&json, "memory");
    json_count(&json, "limit_bytes", stats->limit_bytes);
    json_count(&json, "used_bytes", stats->used_bytes);
    json_count(&json, "rss_bytes", stats->rss_bytes);
    json_close_object(&json);
    json_count(&json, "sessions", stats->sessions);
    json_count(&json, "tokens", stats->tokens);
    json_count(&json, "stored_bytes", stats->stored_bytes);
    json_real(&json, "ratio", ratio_of(stats));
    operations_json(&json, stats);
    json_close_object(&json);
    json_end(&json);
}

static void print_table(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    printf("kvquantd    %s, pid %" PRIu64 ", up %s\n", stats->version, stats->pid,
           seconds_text(stats->uptime_seconds, a));
    for (size_t i = 0; i < stats->socket_count; i++)
        printf("socket      %s\n", stats->sockets[i]);
    printf("memory      %s of %s used, resident %s\n", bytes_text(stats->used_bytes, a),
           bytes_text(stats->limit_bytes, b), bytes_text(stats->rss_bytes, c));
    printf("sessions    %s with %s tokens in %s\n", count_text(stats->sessions, a),
           count_text(stats->tokens, b), bytes_text(stats->stored_bytes, c));
    printf("ratio       %s against 16 bits\n", figure_text(ratio_of(stats), 2, "", a));
    printf("connections %s\n", count_text(stats->connections, a));
    for (size_t i = 0; i < stats->operation_count; i++)
        printf("%s%-8s %14s, %s failed\n", i ? "            " : "requests    ",
               stats->operations[i].operation, count_text(stats->operations[i].requests, a),
               count_text(stats->operations[i].errors, b));
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct kvq_stats stats;
    int error = kvq_stats(client, &stats);
    if (error)
        return report_failure(client, error);
    if (options->given & OPTION_JSON)
        print_json(&stats);
    else
        print_table(&stats);
    return EXIT_DONE;
}

const struct command status_command = {
    .name = "status",
    .arguments = "",
    .argument_count = 0,
    .options = OPTION_SOCKET | OPTION_JSON,
    .summary = "show the daemon's memory, sessions and requests",
    .help = "Shows the daemon: version, sockets, memory used of its limit, sessions, and what it\n"
            "was asked since it started.\n",
    .run = run,
};
