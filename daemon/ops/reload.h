/* Reading the configuration again while the daemon runs. */
#ifndef DAEMON_OPS_RELOAD_H
#define DAEMON_OPS_RELOAD_H

#include <stdbool.h>

#include "daemon/base/command_line.h"

/* Takes over what may change. A faulty file is logged with its line and changes nothing: false. */
bool reload(struct config *config, const struct command_line *line, struct config_changes *changes);

/* Logs one line: what changed, and what waits for a restart. Once it is so. */
void reload_say(const struct config_changes *changes);

#endif
