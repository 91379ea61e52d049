#include "daemon/ops/keeping.h"

#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/ops/notify.h"

static const char pool_name[] = "kvquantd-pool";
static const char set_aside_name[] = "kvquantd-pool-set-aside";

enum { BLOCK_BYTES = 512 }; /* stat(2)'s */

void keeping_init(struct keeping *keeping, struct inherited *inherited) {
    *keeping = (struct keeping){.pool = inherited_take(inherited, pool_name),
                                .set_aside = inherited_take(inherited, set_aside_name)};
}

static void close_file(int *file) {
    if (*file > 0)
        close(*file);
    *file = 0;
}

/* The manager takes no second copy of what it has: it has to let go of the first before. */
static void set_aside(struct keeping *keeping) {
    close_file(&keeping->set_aside);
    notify_drop(set_aside_name);
    keeping->set_aside = keeping->pool;
    keeping->pool = 0;
    notify_keep(set_aside_name, keeping->set_aside);
}

static void say_what_is_set_aside(const struct keeping *keeping) {
    log_warning("a pool of %llu MiB is set aside for inspection, as %s in the service manager's "
                "file descriptor store; stopping the service lets go of it",
                (unsigned long long)keeping_set_aside_bytes(keeping) >> 20, set_aside_name);
}

void keeping_settle(struct keeping *keeping, const struct store *store) {
    if (!notify_is_wanted())
        return;
    if (store->taken.outcome != TAKEOVER_DONE) {
        if (keeping->pool > 0)
            notify_drop(pool_name);
        if (store->taken.outcome == TAKEOVER_SET_ASIDE)
            set_aside(keeping);
        notify_keep(pool_name, pool_file(store->pool));
    }
    close_file(&keeping->pool);
    if (keeping->set_aside > 0)
        say_what_is_set_aside(keeping);
}

uint64_t keeping_set_aside_bytes(const struct keeping *keeping) {
    struct stat status;
    return keeping->set_aside > 0 && fstat(keeping->set_aside, &status) == 0
               ? (uint64_t)status.st_blocks * BLOCK_BYTES
               : 0;
}

void keeping_deinit(struct keeping *keeping) {
    close_file(&keeping->pool);
    close_file(&keeping->set_aside);
}
