/* Opens a file that has a secret: one from the service manager (LoadCredential=), or any other. */
#ifndef DAEMON_BASE_CREDENTIAL_FILE_H
#define DAEMON_BASE_CREDENTIAL_FILE_H

#include <stdbool.h>

/* A name without a slash is looked for in $CREDENTIALS_DIRECTORY first; `is_managers` says whether
 * it was there. The caller closes it. -1 with errno. */
int credential_file_open(const char *file, bool *is_managers) __attribute__((warn_unused_result));

#endif
