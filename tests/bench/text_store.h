/* The neighbours: Redis and memcached, started by the bench, with a client of the bench's own.
 *
 * The client sends values from where they stand, receives them in place and keeps several requests
 * in flight, so that nothing is lost on its side; libhiredis and libmemcached copy values. A
 * session is a number of values, as an engine would store blocks: pages, each 128 tokens of one
 * layer's K or V, or chunks, each 128 tokens of all layers.
 */
#ifndef TESTS_BENCH_TEXT_STORE_H
#define TESTS_BENCH_TEXT_STORE_H

#include "tests/bench/contender.h"
#include "tests/bench/text_protocol.h"

#include <sys/types.h>

struct text_store {
    const struct text_protocol *protocol;
    const char *variant;  /* what is particular to it, for a person */
    const char *settings; /* those of its own on the server's command line, separated by spaces;
                             NULL: none */
    bool chunks;          /* a value is a chunk, else a page */
    size_t in_flight;     /* values asked for before the first has come */
    int buffer_bytes;     /* asked for at the client's end; 0 leaves the system's */
    pid_t pid;
    char socket[96];
};

/* Starts the server with a socket in folder, and waits for it. Fails if it does not start. */
void text_store_start(struct text_store *store, const char *folder);
void text_store_stop(struct text_store *store);

/* The store must stay where it is. */
struct contender text_store_contender(struct text_store *store);

#endif
