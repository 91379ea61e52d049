#include "client/cli/status.h"

#include "client/cli/command.h"

#include <math.h>

double stats_ratio(const struct kvq_stats *stats, uint64_t bytes) {
    return stats->stored_bytes ? (double)bytes / (double)stats->stored_bytes : NAN;
}

double stats_hit_share(const struct kvq_stats *stats) {
    uint64_t fetches = stats->fetch_hits + stats->fetch_misses;
    return fetches ? (double)stats->fetch_hits / (double)fetches : NAN;
}

uint64_t stats_buffers_bytes(const struct kvq_stats *stats) {
    uint64_t told = stats->memory.pages_bytes + stats->memory.tails_bytes +
                    stats->memory.sessions_bytes + stats->memory.fixed_bytes;
    return stats->used_bytes > told ? stats->used_bytes - told : 0;
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
        print_stats_json(&stats);
    else
        print_stats_page(&stats);
    return EXIT_DONE;
}

const struct command status_command = {
    .name = "status",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_JSON,
    .summary = "show the daemon's memory, sessions and requests",
    .help = "Shows the daemon: version, sockets, memory by kind with each kind's share of the "
            "limit, tokens and bytes at each level, and what it did since it started: hits and "
            "misses of fetches, what the keeper coded anew, what was aged and evicted for want "
            "of memory, what sessions share that chose to, attachments, what was taken over "
            "from the daemon before, how many more tokens of up to 8 models fit at each level "
            "into what is free, requests with their mean and longest time from the first frame to "
            "the last, errors by name, and of a tenant with quotas what it has of them. What needs "
            "a look stands in "
            "a line that begins with \"attention\".",
    .run = run,
};
