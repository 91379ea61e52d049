#include "daemon/base/credential_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

const char *credential_file_looseness(int opened, bool is_managers) {
    struct stat status;
    if (fstat(opened, &status) < 0 || !S_ISREG(status.st_mode))
        return "is not a file";
    if (is_managers)
        return NULL;
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return "belongs to somebody else";
    return status.st_mode & 077 ? "can be read by others: chmod 600 it" : NULL;
}
