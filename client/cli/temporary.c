#include "client/cli/temporary.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void temporary_name(const char *prefix, char *name) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    snprintf(name, TEMPORARY_NAME_BYTES, "%s%ld-%" PRIx64, prefix, (long)getpid(), now_ns);
}

void remove_session(struct kvq_client *client, const char *session) {
    (void)kvq_delete(client, session, NULL);
}
