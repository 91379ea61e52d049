/* Progress of a long transfer, on stderr if that is a terminal, and its end by SIGINT or SIGTERM.
 */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *verb; /* "importing" */
    uint64_t all_bytes;
    uint64_t done_before_bytes; /* of calls before this one */
    int64_t shown_ns;
    bool terminal;
};

/* From here on the first SIGINT or SIGTERM only asks for the end; the second kills. */
void progress_catch_signals(void);

/* Catches signals too. */
void progress_init(struct progress *progress, const char *verb, uint64_t all_bytes);

/* For kvq_append and kvq_fetch; context is the progress. */
bool progress_report(void *context, uint64_t bytes);

/* Whether a signal has asked for the end. */
bool progress_interrupted(void);

/* Removes the line. */
void progress_end(struct progress *progress);

#endif
