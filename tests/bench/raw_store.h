/* The rival of the socket bench: a child process that keeps bytes as they are and does nothing
 * else.
 *
 * It receives and sends the bytes of a slot over a unix socket, piece by piece, each piece in one
 * call, from and to memory that was touched before: a plain request and response, nothing in
 * between.
 */
#ifndef TESTS_BENCH_RAW_STORE_H
#define TESTS_BENCH_RAW_STORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct raw_store {
    pid_t child;
    int socket; /* the client's end */
    size_t slot_bytes, piece_bytes;
};

/* Forks the child with slots of memory; it runs on the processors that are not cpu (-1: on any).
 * send_buffer_bytes is asked for at both ends, 0 leaves the system's. Exits on a failure. */
void raw_store_start(struct raw_store *store, size_t slots, size_t slot_bytes, size_t piece_bytes,
                     int send_buffer_bytes, int cpu);
void raw_store_stop(struct raw_store *store);

/* Send a slot's bytes and wait for the child's word, or have them back. Exit on a failure. */
void raw_store_append(struct raw_store *store, uint32_t slot, const void *bytes);
void raw_store_fetch(struct raw_store *store, uint32_t slot, void *bytes);

#endif
