/* What a client's certificate says of its owner. */
#ifndef DAEMON_SERVER_CERTIFICATE_H
#define DAEMON_SERVER_CERTIFICATE_H

#include <openssl/x509.h>

#include "daemon/rpc/credentials.h"

/* What of it is too long is left empty, as is a common name that is one of several, or holds a zero
 * byte. */
void certificate_read_names(const X509 *certificate, struct certificate_names *names);

/* In seconds since 1970; 0: none that is understood. */
int64_t certificate_time(const ASN1_TIME *time);

#endif
