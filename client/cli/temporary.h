/* Sessions that are to be gone again: their names, and removing them whatever happens. */
#ifndef CLIENT_CLI_TEMPORARY_H
#define CLIENT_CLI_TEMPORARY_H

#include "client/c/kvq.h"

enum { TEMPORARY_NAME_BYTES = 64 };

/* A name that nobody has, with the prefix; writes to name, of TEMPORARY_NAME_BYTES. */
void temporary_name(const char *prefix, char *name);

/* Deletes a session, on a new connection if that is gone. Failures are not told: what went
 * wrong before is. */
void remove_session(struct kvq_client *client, const char *session);

#endif
