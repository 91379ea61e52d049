#include "client/c/credential_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/c/client.h"

const char *kvq_credential_path(const char *file, char path[PATH_MAX], bool *guarded) {
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    *guarded = folder && !strchr(file, '/') &&
               snprintf(path, PATH_MAX, "%s/%s", folder, file) < PATH_MAX &&
               access(path, F_OK) == 0;
    return *guarded ? path : file;
}

static bool is_private(int file) {
    struct stat status;
    return fstat(file, &status) == 0 && (status.st_mode & 077) == 0;
}

int kvq_open_secret(struct kvq_client *client, const char *what, const char *file) {
    char path[PATH_MAX];
    bool guarded;
    int opened = open(kvq_credential_path(file, path, &guarded), O_RDONLY | O_CLOEXEC);
    if (opened < 0) {
        (void)kvq_fail(client, KVQ_ARGUMENT, "the %s file %s: %s", what, file, strerror(errno));
        return -1;
    }
    if (guarded || is_private(opened))
        return opened;
    close(opened);
    (void)kvq_fail(client, KVQ_ARGUMENT, "the %s file %s can be read by others: chmod 600 it", what,
                   file);
    return -1;
}
