#include "daemon/base/credential_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int credential_file_open(const char *file, bool *is_managers) {
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char path[4096];
    *is_managers = false;
    if (folder && !strchr(file, '/') &&
        snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path) {
        int opened = open(path, O_RDONLY | O_CLOEXEC);
        *is_managers = opened >= 0;
        if (opened >= 0 || errno != ENOENT)
            return opened;
    }
    return open(file, O_RDONLY | O_CLOEXEC);
}
