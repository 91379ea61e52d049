/* Listening on a path of the file system. */
#ifndef DAEMON_SERVER_UNIX_SOCKET_H
#define DAEMON_SERVER_UNIX_SOCKET_H

#include "daemon/server/listener.h"

/* Binds and listens. A socket that a dead daemon left is replaced, a living one's is not. 0, or -1,
 * logged. */
int unix_socket_open(struct listener *listener, const char *path, unsigned mode)
    __attribute__((warn_unused_result));

/* Removes the file that was made, unless it is another's by now. */
void unix_socket_remove(const struct listener *listener);

#endif
