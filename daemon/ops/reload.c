#include "daemon/ops/reload.h"

#include "daemon/base/log.h"

void reload_say(const struct config_changes *changes) {
    if (!changes->made[0] && !changes->waiting[0])
        log_info("the configuration was read again; nothing changed");
    else if (!changes->waiting[0])
        log_info("the configuration was read again: %s", changes->made);
    else
        log_info("the configuration was read again: %s; a restart is needed for %s",
                 changes->made[0] ? changes->made : "nothing changed", changes->waiting);
}

bool reload(struct config *config, const struct command_line *line,
            struct config_changes *changes) {
    struct config fresh;
    char message[800];
    if (!line->config_path) {
        log_info("there is no configuration file to read again");
        return false;
    }
    bool is_right = command_line_configure(line, &fresh, message, sizeof message) == 0;
    if (is_right)
        config_take_live(config, &fresh, changes);
    else
        log_error("%s; the configuration stays as it was", message);
    config_deinit(&fresh);
    return is_right;
}
