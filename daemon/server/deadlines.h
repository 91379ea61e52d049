/* How long a client may take: to say HELLO, to send a frame that it has begun, to go on with a
 * request whose data comes in parts, and to ask for anything at all.
 *
 * Looked after by a slow timer that runs only while some connection has such a deadline; what has a
 * large buffer, or waits for its reader, is looked after by the reactor's tick.
 */
#ifndef DAEMON_SERVER_DEADLINES_H
#define DAEMON_SERVER_DEADLINES_H

#include "daemon/server/connection.h"

/* After a step of the connection. */
void deadlines_watch(struct connection *connection);

#endif
