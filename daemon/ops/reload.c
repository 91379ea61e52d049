#include "daemon/ops/reload.h"

#include "daemon/base/log.h"

static void say(const struct config_changes *changes) {
    if (!changes->made[0] && !changes->waiting[0])
        log_info("the configuration was read again; nothing changed");
    else if (!changes->waiting[0])
        log_info("the configuration was read again: %s", changes->made);
    else
        log_info("the configuration was read again: %s; a restart is needed for %s",
                 changes->made[0] ? changes->made : "nothing changed", changes->waiting);
}

void reload(struct config *config, const struct command_line *line) {
    struct config fresh;
    struct config_changes changes;
    char message[800];
    if (!line->config_path) {
        log_info("there is no configuration file to read again");
        return;
    }
    if (command_line_configure(line, &fresh, message, sizeof message) < 0) {
        log_error("%s; the configuration stays as it was", message);
    } else {
        config_take_live(config, &fresh, &changes);
        say(&changes);
    }
    config_deinit(&fresh);
}
