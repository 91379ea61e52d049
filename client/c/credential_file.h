/* Files that say who a client is: one of the service manager's credentials, or any other. */
#ifndef CLIENT_C_CREDENTIAL_FILE_H
#define CLIENT_C_CREDENTIAL_FILE_H

#include <limits.h>
#include <stdbool.h>

struct kvq_client;

#pragma GCC visibility push(hidden)

/* A name without a slash is looked for in $CREDENTIALS_DIRECTORY first, which the service manager
 * guards; `guarded` says whether it was there. Returns path, or file as it is. */
const char *kvq_credential_path(const char *file, char path[PATH_MAX], bool *guarded);

/* Opens a file with a secret, which nobody but its owner may read; the caller closes it. `what` is
 * its name in a sentence. -1: that is recorded. */
int kvq_open_secret(struct kvq_client *client, const char *what, const char *file);

#pragma GCC visibility pop

#endif
