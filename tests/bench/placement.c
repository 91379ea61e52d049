#include "tests/bench/placement.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void run_on(const cpu_set_t *cpus) {
    if (sched_setaffinity(0, sizeof *cpus, cpus)) {
        perror("sched_setaffinity");
        exit(EXIT_FAILURE);
    }
}

void placement_take(int cpu) {
    cpu_set_t cpus;
    if (cpu < 0)
        return;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)cpu, &cpus);
    run_on(&cpus);
}

void placement_leave(int cpu) {
    cpu_set_t cpus;
    if (cpu < 0)
        return;
    CPU_ZERO(&cpus);
    for (long other = 0; other < sysconf(_SC_NPROCESSORS_ONLN); other++)
        if (other != cpu)
            CPU_SET((size_t)other, &cpus);
    run_on(&cpus);
}
