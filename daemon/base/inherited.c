#include "daemon/base/inherited.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/base/log.h"

int inherited_init(struct inherited *inherited) {
    *inherited = (struct inherited){0};
    int count = sd_listen_fds_with_names(1, &inherited->names);
    if (count > 0 && !(inherited->files = calloc((size_t)count, sizeof *inherited->files)))
        count = -ENOMEM;
    if (count < 0) {
        log_error("what the service manager hands over cannot be taken: %s", strerror(-count));
        return -1;
    }
    inherited->count = count;
    for (int i = 0; i < count; i++)
        inherited->files[i] = SD_LISTEN_FDS_START + i;
    return 0;
}

void inherited_deinit(struct inherited *inherited) {
    const char *name;
    int file;
    while ((file = inherited_take_next(inherited, &name)) > 0)
        close(file);
    for (int i = 0; i < inherited->count; i++)
        free(inherited->names[i]);
    free(inherited->names);
    free(inherited->files);
    *inherited = (struct inherited){0};
}

static int take(struct inherited *inherited, int i) {
    int file = inherited->files[i];
    inherited->files[i] = -1;
    return file;
}

int inherited_take(struct inherited *inherited, const char *name) {
    for (int i = 0; i < inherited->count; i++)
        if (inherited->files[i] >= 0 && strcmp(inherited->names[i], name) == 0)
            return take(inherited, i);
    return 0;
}

int inherited_take_next(struct inherited *inherited, const char **name) {
    for (int i = 0; i < inherited->count; i++) {
        *name = inherited->names[i];
        if (inherited->files[i] >= 0)
            return take(inherited, i);
    }
    return 0;
}

int inherited_left(const struct inherited *inherited) {
    int left = 0;
    for (int i = 0; i < inherited->count; i++)
        left += inherited->files[i] >= 0;
    return left;
}
