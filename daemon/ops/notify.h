/* What the service manager is told (sd_notify(3)). Without one, nothing happens. */
#ifndef DAEMON_OPS_NOTIFY_H
#define DAEMON_OPS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Whether there is one that listens. */
bool notify_is_wanted(void);

void notify_ready(const char *status);
void notify_status(const char *status);
void notify_stopping(void);

/* The configuration is read again; notify_ready() follows. */
void notify_reloading(void);

/* It keeps a copy of the file for the next daemon, under this name; or no longer keeps it. */
void notify_keep(const char *name, int file);
void notify_drop(const char *name);

/* Every so many microseconds notify_alive() is expected, by this process; 0: not at all. */
uint64_t notify_watchdog_us(void);
void notify_alive(void);

#endif
