/* Finding the tokens of a session that a model's queries attend to most. */
#ifndef CLIENT_CLI_RECALL_KEYS_H
#define CLIENT_CLI_RECALL_KEYS_H

#include "client/cli/command.h"

/* `kvq recall` with --queries: k blocks of each layer. */
enum exit_status recall_keys(const struct options *options, uint32_t k);

#endif
