/* The status page: one document, with its style and script in it. */
#ifndef DAEMON_OPS_PAGE_H
#define DAEMON_OPS_PAGE_H

#include <stddef.h>

/* The text, to be freed, in which style and script carry the nonce; NULL without memory. */
char *page_write(const char *nonce, size_t *bytes) __attribute__((warn_unused_result));

#endif
