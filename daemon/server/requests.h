/* The requests of a connection: a list in the order in which they are stepped. */
#ifndef DAEMON_SERVER_REQUESTS_H
#define DAEMON_SERVER_REQUESTS_H

#include "daemon/server/connection.h"

struct rpc_request *requests_find(const struct connection *connection, uint32_t id);

/* A new request begins. False if no more can be kept now. One that is refused has its fault set. */
bool requests_begin(struct connection *connection, const struct wire_header *header,
                    const uint8_t *control) __attribute__((warn_unused_result));

/* A request of which nothing is left to do but to send this fault. False without memory. */
bool requests_add_fault(struct connection *connection, uint32_t id, uint32_t code)
    __attribute__((warn_unused_result));

/* The request's fault is set: its operation ends, its ERROR frame is still to be sent. */
void requests_fail(struct connection *connection, struct rpc_request *request);

/* Its last frame is made: for the statistics. */
void requests_count_answer(const struct connection *connection, const struct rpc_request *request);

/* Ends its operation and drops it. */
void requests_remove(struct connection *connection, struct rpc_request *request);
void requests_clear(struct connection *connection);

/* The first that can be stepped, or NULL; next moves it behind the others. */
struct rpc_request *requests_first(const struct connection *connection);
struct rpc_request *requests_next(struct connection *connection);

/* Those that wait may be stepped again. */
void requests_wake(struct connection *connection);
bool requests_any_waits(const struct connection *connection);

#endif
