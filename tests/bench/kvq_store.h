/* The contender this project is: a kvquantd of the bench's own, spoken to through libkvq. */
#ifndef TESTS_BENCH_KVQ_STORE_H
#define TESTS_BENCH_KVQ_STORE_H

#include "tests/bench/contender.h"
#include "tests/bench/placement.h"

#include <sys/types.h>

struct kvq_daemon {
    pid_t pid;
    char socket[96];  /* the path of its unix socket */
    char address[96]; /* where clients connect: that path, or host:port */
};

/* Starts program with so many bytes of memory and waits until it answers on transport. folder is
 * for its socket. Fails if it does not start. */
void kvq_daemon_start(struct kvq_daemon *daemon, const char *program, const char *transport,
                      const char *folder, const char *memory, enum placement placement);
/* The same on a unix socket, with a configuration file, anywhere. */
void kvq_daemon_start_configured(struct kvq_daemon *daemon, const char *program, const char *folder,
                                 const char *memory, const char *config);
void kvq_daemon_stop(struct kvq_daemon *daemon);

/* A connection of one's own; fails if there is none. */
struct kvq_client *kvq_daemon_connect(const struct kvq_daemon *daemon);
/* Ends the program with the client's words if error is not 0. */
void kvq_check(const struct kvq_client *client, int error);

/* "exact", "fast8", "0" to "5"; fails for others. */
int kvq_level_of(const char *name);

struct kvq_store {
    const struct kvq_daemon *daemon;
    const char *level;
    bool settle; /* appends are answered once all is coded at the level */
};

/* variant "settled" or "at once". The store must stay where it is. */
struct contender kvq_store_contender(struct kvq_store *store);

#endif
