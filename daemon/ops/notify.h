/* What the service manager is told: ready, status, stopping (sd_notify(3)). Without one, nothing
 * happens. */
#ifndef DAEMON_OPS_NOTIFY_H
#define DAEMON_OPS_NOTIFY_H

void notify_ready(const char *status);
void notify_stopping(void);

#endif
