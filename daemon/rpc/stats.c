/* STATS: the daemon as a whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    return rpc_unpack(request, &kvq__stats_request__descriptor, control, control_bytes)
               ? WIRE_OK
               : request->fault.code;
}

/* Resident pages by /proc/self/statm, proc(5); 0 where it cannot be read. */
static uint64_t rss_bytes(void) {
    char line[128];
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const char *resident = fgets(line, sizeof line, file) ? strchr(line, ' ') : NULL;
    fclose(file);
    return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void count_operations(struct rpc_daemon *daemon, Kvq__StatsReply *reply,
                             Kvq__OperationCount *counts) {
    for (int type = 0; type < RPC_TYPES; type++) {
        const struct rpc_operation *operation = rpc_find((uint8_t)type);
        if (!operation)
            continue;
        Kvq__OperationCount *count = &counts[reply->n_operations];
        kvq__operation_count__init(count);
        count->operation = (char *)operation->name;
        count->requests = atomic_load(&daemon->requests[type]);
        count->errors = atomic_load(&daemon->errors[type]);
        reply->operations[reply->n_operations++] = count;
    }
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_daemon *daemon = request->context->daemon;
    Kvq__StatsReply reply = KVQ__STATS_REPLY__INIT;
    Kvq__OperationCount counts[RPC_TYPES], *pointers[RPC_TYPES];
    struct store_totals totals;
    info_totals(daemon->store, &totals);
    reply.version = KVQUANT_VERSION;
    reply.pid = (uint64_t)getpid();
    reply.uptime_seconds = (double)(clock_now_ns() - daemon->started_ns) / (double)CLOCK_NS_PER_S;
    reply.n_sockets = daemon->socket_count;
    reply.sockets = (char **)daemon->sockets;
    reply.limit_bytes = atomic_load(&daemon->store->budget.limit_bytes);
    reply.used_bytes = store_used_bytes(daemon->store);
    reply.rss_bytes = rss_bytes();
    reply.sessions = totals.sessions;
    reply.tokens = totals.tokens;
    reply.bytes_16bit = totals.values * 2;
    reply.stored_bytes = totals.stored_bytes;
    reply.connections = atomic_load(&daemon->connections);
    reply.operations = pointers;
    count_operations(daemon, &reply, counts);
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_stats = {.name = "stats", .begin = begin, .step = step};
