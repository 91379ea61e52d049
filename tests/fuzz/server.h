/* The daemon's server in memory: a store, recall and one reactor, whose loop the caller runs, with
 * one client at the other end of a socket pair. What comes back is held to the protocol.
 */
#ifndef TESTS_FUZZ_SERVER_H
#define TESTS_FUZZ_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/ops/metrics.h"

enum { SERVER_MEMORY_BYTES = 64 << 20 };

/* With what is on disk in that folder, which it waits for; NULL: without a disk. */
void server_start(const char *directory);
void server_stop(void);

/* Starts it without a disk, the first time; after that makes it as new: no sessions, no blocks, its
 * own limit. */
void server_reset(void);

/* What it tells of itself, names and all. */
struct metrics_sources server_sources(void);

/* A client that has just connected. */
void server_connect(void);

/* Sends the bytes and serves what comes of it. False once the daemon has closed the connection. */
bool server_take(const uint8_t *bytes, size_t count);

/* Serves on while requests wait, for some turns of the loop; then the client goes away, and all
 * that was its own must be given back. */
void server_disconnect(void);

#endif
