/* The project's version, as kvquantd and its clients print it. */
#ifndef DAEMON_BASE_VERSION_H
#define DAEMON_BASE_VERSION_H

#define KVQUANT_VERSION "0.1.0"

#endif
