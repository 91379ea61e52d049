/* Checks of how long the certificates of TLS hold. */
#include "client/cli/doctor.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

enum { DAYS_LEAST = 14, SECONDS_A_DAY = 86400 };

/* The days until the first in the file expires, which the daemon shows; below 0 if it has, or is
 * not valid yet. False: it cannot be read. */
static bool days_left(const char *path, int *days) {
    int seconds = 0;
    FILE *file = fopen(path, "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    bool read =
        certificate && ASN1_TIME_diff(days, &seconds, NULL, X509_get0_notAfter(certificate)) == 1;
    if (read && (seconds < 0 || X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0))
        *days = -1;
    X509_free(certificate);
    if (file)
        fclose(file);
    return read;
}

static void check(const struct machine *machine, const char *path, struct finding *finding) {
    char whole[MACHINE_PATH_BYTES];
    int days;
    if (settings_lack(&machine->settings, path, "no TLS", finding))
        return;
    if (!strchr(path, '/')) {
        find(finding, FINDING_OK, "%.200s is handed over by the service manager", path);
    } else if (!days_left(machine_path(machine, path, whole), &days)) {
        find(finding, FINDING_WARN, "%.200s holds no certificate that can be read", path);
        advise(finding, "run this as root, or as the daemon's user; it must be PEM");
    } else if (days < 0) {
        find(finding, FINDING_FAIL, "%.200s has expired, or does not hold yet", path);
        advise(finding, "put a new one in its place, and reload the daemon");
    } else {
        find(finding, days < DAYS_LEAST ? FINDING_WARN : FINDING_OK,
             "%.200s holds for %d more days", path, days);
        if (days < DAYS_LEAST)
            advise(finding, "put a new one in its place, and reload the daemon: no connection is "
                            "lost");
    }
}

static void check_own(const struct machine *machine, struct finding *finding) {
    check(machine, machine->settings.tls_certificate, finding);
}

static void check_clients(const struct machine *machine, struct finding *finding) {
    check(machine, machine->settings.tls_client_ca, finding);
}

static const struct check rows[] = {
    {"certificate", check_own},
    {"clients' CA", check_clients},
};
const struct checks certificate_checks = {rows, sizeof rows / sizeof *rows};
