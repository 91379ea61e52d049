#include "tests/bench/placement.h"

#include "tests/bench/fail.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"any", "apart", "together"};

static long processors(void) {
    return sysconf(_SC_NPROCESSORS_ONLN);
}

enum placement placement_of(const char *name) {
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i]) && (i != PLACEMENT_APART || processors() > 1))
            return (enum placement)i;
    fail_because("no such placement on this machine: %s", name);
}

const char *placement_name(enum placement placement) {
    return names[placement];
}

static void run_on(long first, long end) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (long cpu = first; cpu < end; cpu++)
        CPU_SET((size_t)cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus))
        fail("sched_setaffinity");
}

void placement_client(enum placement placement) {
    if (placement != PLACEMENT_ANY)
        run_on(0, placement == PLACEMENT_APART ? processors() / 2 : 1);
}

void placement_server(enum placement placement) {
    if (placement == PLACEMENT_APART)
        run_on(processors() / 2, processors());
    else if (placement == PLACEMENT_TOGETHER)
        run_on(0, 1);
}
