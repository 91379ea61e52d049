/* Buffers for frames, lent to connections that are receiving or sending: a fixed number, reserved
 * ahead.
 *
 * One pool serves all reactors. A lender who finds none waits; giving one back wakes those who do.
 */
#ifndef DAEMON_SERVER_LEASE_H
#define DAEMON_SERVER_LEASE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct lease_pool {
    pthread_mutex_t lock;
    char *memory;
    uint8_t **free_buffers;
    size_t count, free_count;
    unsigned waiting;
    void (*on_return)(void *context); /* while somebody waits; from the returning thread */
    void *context;
};

/* 0, or -1 without memory. */
int lease_pool_init(struct lease_pool *pool, size_t count, void (*on_return)(void *context),
                    void *context) __attribute__((warn_unused_result));
void lease_pool_deinit(struct lease_pool *pool);

/* What so many buffers take. */
uint64_t lease_pool_bytes(size_t count);

/* A buffer of RPC_BUFFER_BYTES, 64-byte aligned, or NULL: then the caller is told by on_return. */
uint8_t *lease_take(struct lease_pool *pool);
void lease_return(struct lease_pool *pool, uint8_t *buffer);

#endif
