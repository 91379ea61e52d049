/* Reading the configuration again while the daemon runs. */
#ifndef DAEMON_OPS_RELOAD_H
#define DAEMON_OPS_RELOAD_H

#include "daemon/base/command_line.h"

/* Takes over what may change and logs one line: what changed, and what waits for a restart. A
 * faulty file is logged with its line and changes nothing. */
void reload(struct config *config, const struct command_line *line);

#endif
