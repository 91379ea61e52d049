/* Token ids from a file or from the command line. */
#ifndef CLIENT_CLI_IDS_H
#define CLIENT_CLI_IDS_H

#include <stdbool.h>
#include <stdint.h>

/* Owns its numbers. */
struct ids {
    uint32_t *numbers;
    uint64_t count;
};

/* Numbers with commas between, or the name of an .npy file of one row of integers. False:
 * complained. */
bool ids_open(const char *text, struct ids *ids);
void ids_close(struct ids *ids);

#endif
