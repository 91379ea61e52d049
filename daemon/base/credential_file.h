/* Opens a file that has a secret: one from the service manager (LoadCredential=), or any other. */
#ifndef DAEMON_BASE_CREDENTIAL_FILE_H
#define DAEMON_BASE_CREDENTIAL_FILE_H

#include <stdbool.h>

/* A name without a slash is looked for in $CREDENTIALS_DIRECTORY first; `is_managers` says whether
 * it was there. The caller closes it. -1 with errno. */
int credential_file_open(const char *file, bool *is_managers) __attribute__((warn_unused_result));

/* NULL, or why what an opened file says is no secret: others may read it. The manager's own is
 * trusted. */
const char *credential_file_looseness(int opened, bool is_managers);

#endif
