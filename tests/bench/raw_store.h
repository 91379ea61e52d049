/* The ceiling: a process that keeps bytes as they are and does nothing else.
 *
 * It receives and sends the bytes of a session, piece by piece, each piece in one call, from and to
 * memory that was touched before, with a thread for each connection: a plain request and response
 * over a unix or a loopback TCP socket, nothing in between.
 */
#ifndef TESTS_BENCH_RAW_STORE_H
#define TESTS_BENCH_RAW_STORE_H

#include "tests/bench/contender.h"
#include "tests/bench/placement.h"

#include <sys/types.h>

struct raw_store {
    pid_t child;
    char transport[8];
    char path[96];    /* of its unix socket */
    uint16_t port;    /* or its TCP port */
    int buffer_bytes; /* asked for at both ends of connections from now on; 0 leaves the system's */
};

/* Forks the child with memory for the workload's sessions. Fails if it cannot. folder is for its
 * socket. */
void raw_store_start(struct raw_store *store, const char *transport, const char *folder,
                     const struct workload *workload, enum placement placement);
void raw_store_stop(struct raw_store *store);

/* Tries buffers of several sizes on the workload, prints a line of kind "raw_buffers" for each, and
 * keeps the size that is quickest over append and fetch together. */
void raw_store_tune(struct raw_store *store, struct workload *workload, uint32_t connections);

struct contender raw_store_contender(struct raw_store *store);

/* Pings of so many bytes each way, at most 256, over a connection of the contender: begin, then
 * each in turn; the connection takes nothing else until the last. */
void raw_store_begin_pings(void *connection, uint32_t bytes);
void raw_store_ping(void *connection, uint32_t bytes, bool last);
/* One append or fetch of the first so many bytes of a session's slot, in pieces. */
void raw_store_append_bytes(void *connection, const char *bytes, size_t count, size_t piece_bytes);
void raw_store_fetch_bytes(void *connection, char *bytes, size_t count, size_t piece_bytes);

#endif
