#include "daemon/server/requests.h"

#include "daemon/base/clock.h"

#define DISK_WAIT_NS (30 * CLOCK_NS_PER_S)

enum { SIZE_BYTES = 4 << 10, SIZE_FACTOR = 16 }; /* of the smallest of RPC_SIZES */
enum { REQUESTS_KEPT = 2 * WIRE_REQUESTS_MAX };  /* refused ones, too, until their ERROR is sent */

struct rpc_request *requests_find(const struct connection *connection, uint32_t id) {
    struct rpc_request *request = connection->requests;
    while (request && request->id != id)
        request = request->next;
    return request;
}

static void append(struct connection *connection, struct rpc_request *request) {
    struct rpc_request **link = &connection->requests;
    while (*link)
        link = &(*link)->next;
    request->next = NULL;
    *link = request;
}

static void unlink_from(struct connection *connection, struct rpc_request *request) {
    struct rpc_request **link = &connection->requests;
    while (*link != request)
        link = &(*link)->next;
    *link = request->next;
}

static void end_operation(struct rpc_request *request) {
    if (request->operation && request->operation->end)
        request->operation->end(request);
    request->operation = NULL;
}

void requests_remove(struct connection *connection, struct rpc_request *request) {
    unlink_from(connection, request);
    connection->request_count--;
    end_operation(request);
    reactor_return_request(connection->reactor, request);
}

void requests_clear(struct connection *connection) {
    while (connection->requests)
        requests_remove(connection, connection->requests);
}

void requests_fail(struct connection *connection, struct rpc_request *request) {
    struct rpc_daemon *daemon = connection->reactor->context.daemon;
    end_operation(request);
    if (request->type < RPC_TYPES)
        atomic_fetch_add(&daemon->errors[request->type], 1);
    request->failed = true;
    connection_log(connection, LOG_LEVEL_DEBUG, request, "request %u is refused: %s", request->id,
                   request->fault.message);
}

static void raise_to(_Atomic uint64_t *most, uint64_t value) {
    uint64_t seen = atomic_load(most);
    while (value > seen && !atomic_compare_exchange_weak(most, &seen, value))
        ;
}

static int size_of(const struct rpc_request *request) {
    int size = 0;
    for (uint64_t most = SIZE_BYTES; request->moved_bytes > most && size < RPC_SIZES - 1;
         most *= SIZE_FACTOR)
        size++;
    return size;
}

static void say_if_slow(const struct connection *connection, const struct rpc_request *request,
                        uint64_t ns) {
    uint64_t slow_ms = atomic_load(&connection->reactor->context.daemon->slow_request_ms);
    if (slow_ms > 0 && ns >= slow_ms * CLOCK_NS_PER_MS)
        connection_log(connection, LOG_LEVEL_WARNING, request,
                       "request %u was slow: %llu ms for %llu bytes", request->id,
                       (unsigned long long)(ns / CLOCK_NS_PER_MS),
                       (unsigned long long)request->moved_bytes);
}

void requests_count_answer(const struct connection *connection, const struct rpc_request *request) {
    struct rpc_context *context = &connection->reactor->context;
    struct rpc_daemon *daemon = context->daemon;
    uint64_t ns = clock_now_ns() - request->begun_ns, us = ns / CLOCK_NS_PER_US;
    if (request->fault.code != WIRE_OK)
        atomic_fetch_add(&daemon->faults[request->fault.code], 1);
    if (!rpc_find(request->type))
        return;
    if (request->fault.code != WIRE_OK)
        atomic_fetch_add(&daemon->refusals[request->type][request->fault.code], 1);
    histogram_add(&context->seconds[request->type][size_of(request)], &histogram_seconds, ns);
    say_if_slow(connection, request, ns);
    atomic_fetch_add(&daemon->total_us[request->type], us);
    raise_to(&daemon->max_us[request->type], us);
}

static struct rpc_request *add(struct connection *connection, uint32_t id, uint8_t type) {
    struct rpc_request *request = reactor_take_request(connection->reactor);
    if (!request)
        return NULL;
    request->id = id;
    request->peer = &connection->peer;
    request->type = type;
    request->begun_ns = request->heard_ns = clock_now_ns();
    append(connection, request);
    connection->request_count++;
    return request;
}

bool requests_add_fault(struct connection *connection, uint32_t id, uint32_t code) {
    struct rpc_request *request = add(connection, id, RPC_TYPES);
    if (!request)
        return false;
    rpc_fail(request, code, NULL);
    request->failed = true;
    return true;
}

static unsigned in_flight(const struct connection *connection) {
    unsigned count = 0;
    for (const struct rpc_request *request = connection->requests; request; request = request->next)
        count += !request->failed && !request->discarding;
    return count;
}

static unsigned kept(const struct connection *connection) {
    unsigned count = 0;
    for (const struct rpc_request *request = connection->requests; request; request = request->next)
        count += !request->discarding;
    return count;
}

/* What the disk holds is being read: for so long it is waited for. */
static bool waits_for_disk(const struct connection *connection, uint8_t type) {
    return !rpc_can_begin(connection->reactor->context.daemon, type) &&
           clock_now_ns() - connection->receive_start_ns < DISK_WAIT_NS;
}

static uint32_t begin(struct connection *connection, struct rpc_request *request,
                      const struct wire_header *header, const uint8_t *control) {
    struct rpc_daemon *daemon = connection->reactor->context.daemon;
    const struct rpc_operation *operation = rpc_find(header->type);
    if (!operation)
        return rpc_fail(request, WIRE_UNKNOWN_OPERATION, NULL);
    request->receiving = operation->data != NULL;
    if (header->type != WIRE_HELLO &&
        role_check(request, role_needed(header->type), operation->name) != WIRE_OK)
        return request->fault.code;
    if (in_flight(connection) > WIRE_REQUESTS_MAX)
        return rpc_fail(request, WIRE_TOO_MANY_REQUESTS, NULL);
    if (connection->reactor->draining)
        return rpc_fail(request, WIRE_SHUTTING_DOWN, NULL);
    if (!rpc_allows(daemon, operation->effect))
        return rpc_fail(request, WIRE_READ_ONLY, NULL);
    if (!rpc_can_begin(daemon, header->type))
        return rpc_fail(request, WIRE_BUSY, "the daemon still reads what its disk holds");
    uint32_t code = operation->begin(request, control, header->control_bytes);
    if (code == WIRE_OK)
        request->operation = operation;
    return code;
}

bool requests_begin(struct connection *connection, const struct wire_header *header,
                    const uint8_t *control) {
    struct rpc_request *request = NULL;
    if (waits_for_disk(connection, header->type))
        return false;
    if (kept(connection) < REQUESTS_KEPT)
        request = add(connection, header->request_id, header->type);
    uint32_t code = request ? begin(connection, request, header, control) : RPC_LATER;
    if (code == RPC_LATER) {
        if (request)
            requests_remove(connection, request);
        return false;
    }
    if (rpc_find(header->type))
        atomic_fetch_add(&connection->reactor->context.daemon->requests[header->type], 1);
    if (code != WIRE_OK)
        requests_fail(connection, request);
    return true;
}

static bool can_step(const struct rpc_request *request) {
    return request->failed || (!request->discarding && !request->receiving && !request->waiting);
}

struct rpc_request *requests_first(const struct connection *connection) {
    struct rpc_request *request = connection->requests;
    while (request && !can_step(request))
        request = request->next;
    return request;
}

struct rpc_request *requests_next(struct connection *connection) {
    struct rpc_request *request = requests_first(connection);
    if (request) {
        unlink_from(connection, request);
        append(connection, request);
    }
    return request;
}

void requests_wake(struct connection *connection) {
    for (struct rpc_request *request = connection->requests; request; request = request->next)
        request->waiting = false;
}

bool requests_any_waits(const struct connection *connection) {
    const struct rpc_request *request = connection->requests;
    while (request && !request->waiting)
        request = request->next;
    return request != NULL;
}
