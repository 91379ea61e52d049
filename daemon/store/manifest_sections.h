/* What a manifest ends in: sections of what not every session has. */
#ifndef DAEMON_STORE_MANIFEST_SECTIONS_H
#define DAEMON_STORE_MANIFEST_SECTIONS_H

#include "daemon/store/manifest.h"

/* With the session locked for both. */
size_t manifest_sections_bytes(const struct session *session);
void manifest_sections_write(const struct session *session, uint8_t *to);

/* From there up to the end; false if no session has such. */
bool manifest_sections_read(struct manifest *manifest, const uint8_t *from, const uint8_t *end);

#endif
