/* Checks of the daemon that runs. */
#include "client/cli/doctor.h"
#include "client/cli/words.h"
#include "proto/page/kernels.h"

#include <string.h>

static void check_answer(const struct machine *machine, struct finding *finding) {
    if (!machine->failure) {
        find(finding, FINDING_OK, "kvquantd %s answers on %s", machine->stats.version,
             machine->socket);
        return;
    }
    find(finding, FINDING_FAIL, "%s", machine->failure);
    if (machine->error == KVQ_UNAUTHENTICATED || machine->error == KVQ_PERMISSION_DENIED)
        advise(finding, "--token-file FILE, or a line for this user in the file of `tenants`");
    else if (machine->error == KVQ_VERSION)
        advise(finding, "install one version of kvq and kvquantd");
    else
        advise(finding, "systemctl start kvquantd; journalctl -u kvquantd says why it ended; "
                        "--socket PATH if it listens elsewhere");
}

static void check_state(const struct machine *machine, struct finding *finding) {
    const struct kvq_stats *stats = &machine->stats;
    if (machine->failure)
        find(finding, FINDING_OK, "nothing to ask");
    else if (stats->state == KVQ_STATE_DRAINED || stats->state == KVQ_STATE_READ_ONLY) {
        find(finding, FINDING_WARN, "it is %s", state_name(stats->state));
        advise(finding, "kvq control normal, when it is to take more");
    } else if (stats->disk.recovering) {
        find(finding, FINDING_WARN, "it still finds what an earlier one left on disk");
        advise(finding, "wait: what is not found yet is a miss");
    } else if (stats->takeover.why[0]) {
        find(finding, FINDING_WARN, "it began cold: what the service manager kept %s",
             stats->takeover.why);
        advise(finding, "RUNBOOK.md, \"KvquantBeganCold\"");
    } else {
        find(finding, FINDING_OK, "it takes all requests");
    }
}

/* Up to the first dot: what is promised to work together. */
static bool same_series(const char *a, const char *b) {
    size_t length = strcspn(a, ".");
    return length == strcspn(b, ".") && strncmp(a, b, length) == 0;
}

static void check_versions(const struct machine *machine, struct finding *finding) {
    const char *own = kvq_version(), *daemon = machine->stats.version;
    if (machine->failure) {
        find(finding, FINDING_OK, "kvq and libkvq %s", own);
        return;
    }
    bool equal = strcmp(own, daemon) == 0;
    find(finding,
         equal                      ? FINDING_OK
         : same_series(own, daemon) ? FINDING_WARN
                                    : FINDING_FAIL,
         "kvq and libkvq %s, kvquantd %s", own, daemon);
    if (!equal)
        advise(finding, "install one version of them; restart the daemon after an upgrade");
}

static void check_kernels(const struct machine *machine, struct finding *finding) {
    (void)machine;
    const char *name = page_kernels()->name;
    bool slow = strcmp(name, "portable") == 0 || strcmp(name, "x86_64_v3") == 0;
    find(finding, slow ? FINDING_WARN : FINDING_OK, "pages are coded by %s instructions", name);
    if (slow)
        advise(finding, "coding is several times slower so: a processor with AVX2, or unset "
                        "KVQ_CPU; a virtual machine may hide them (cpu host-passthrough)");
}

static const struct check rows[] = {
    {"daemon", check_answer},
    {"state", check_state},
    {"versions", check_versions},
    {"processor", check_kernels},
};
const struct checks daemon_checks = {rows, sizeof rows / sizeof *rows};
