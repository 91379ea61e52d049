/* Keeping the same tokens once: what the keeper does for sessions that chose it.
 *
 * Where a chunk that another session offers holds the same page of token ids, a slice takes that
 * one and lets its own go, if the other is no coarser than the slice is to be and promises as many
 * decibels; where the slice is to be exact, or the session shares by bytes, if the coded pages are
 * the same to the last byte. Of several the one that was offered first is taken, so that all come
 * to the same.
 */
#ifndef DAEMON_STORE_SHARING_H
#define DAEMON_STORE_SHARING_H

#include "daemon/store/store.h"

/* For all slices of the session; `go_on` is asked between two chunks. */
void sharing_share(struct store *store, struct session *session, bool (*go_on)(void *context),
                   void *context);

#endif
