#include "daemon/ops/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "daemon/base/clock.h"

bool notify_is_wanted(void) {
    return getenv("NOTIFY_SOCKET") != NULL;
}

void notify_ready(const char *status) {
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_status(const char *status) {
    sd_notifyf(0, "STATUS=%s", status);
}

void notify_stopping(void) {
    sd_notify(0, "STOPPING=1\nSTATUS=Finishing what runs");
}

void notify_reloading(void) {
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
               (unsigned long long)(clock_now_ns() / CLOCK_NS_PER_US));
}

void notify_keep(const char *name, int file) {
    char message[128];
    snprintf(message, sizeof message, "FDSTORE=1\nFDNAME=%s", name);
    sd_pid_notify_with_fds(0, 0, message, &file, 1);
}

void notify_drop(const char *name) {
    sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

uint64_t notify_watchdog_us(void) {
    uint64_t interval_us;
    return sd_watchdog_enabled(0, &interval_us) > 0 ? interval_us : 0;
}

void notify_alive(void) {
    sd_notify(0, "WATCHDOG=1");
}
