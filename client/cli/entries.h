/* The ranges file of `kvq index`: a line for each vector, "A:B", then, behind a tab, its label, and
 * behind another its metadata. */
#ifndef CLIENT_CLI_ENTRIES_H
#define CLIENT_CLI_ENTRIES_H

#include "client/c/kvq.h"

struct entries {
    char *text; /* owned: what the entries point to */
    struct kvq_entry *entries;
    size_t count;
};

/* False: complained. To be closed in any case. */
bool entries_open(const char *path, struct entries *entries);
void entries_close(struct entries *entries);

#endif
