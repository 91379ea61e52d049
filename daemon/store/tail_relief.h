/* Raw tails under pressure: they are coded, and so take less and may go to disk, before anybody
 * loses tokens. For the keeper's thread alone.
 */
#ifndef DAEMON_STORE_TAIL_RELIEF_H
#define DAEMON_STORE_TAIL_RELIEF_H

#include <stdbool.h>
#include <stdint.h>

struct coldness;
struct store;

/* Codes tails of sessions in that order that were not used for so long: as time would by then, else
 * exactly; until those took so many bytes. Whether any were coded. */
bool tail_relief(struct store *store, struct coldness *order, uint64_t want_bytes,
                 uint64_t idle_ns);

#endif
