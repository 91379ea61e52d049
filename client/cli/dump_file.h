/* The file of `kvq dump`: whole sessions one behind the other, and a part that says how many.
 *
 * It is written under another name, for its owner's eyes only, and put in its place when it is
 * whole; "-" is standard output. To be read it is mapped, all of its checksums and what it says of
 * itself are checked, and the sessions in it are listed.
 */
#ifndef CLIENT_CLI_DUMP_FILE_H
#define CLIENT_CLI_DUMP_FILE_H

#include "client/cli/command.h"
#include "proto/wire/dump.h"

/* One session in a file. */
struct dump_entry {
    uint64_t offset, bytes;
    struct wire_dump_session said; /* its strings point into the file */
};

/* Owns all it points to. */
struct dump_output {
    struct wire_dump_reader reader; /* sees what is written */
    const char *path;
    char *temporary; /* NULL: standard output, or it is in its place */
    uint64_t bytes, session_start, sessions, chain;
    int file;
    bool failed; /* complained */
};

/* False: complained. */
bool dump_output_open(const char *path, struct dump_output *output);

/* The sessions' bytes, for kvq_dump(); context is the output. */
bool dump_output_write(void *context, const void *bytes, size_t count);

/* A session is whole; or what was written of it is to be forgotten, which standard output cannot.
 */
void dump_output_end_session(struct dump_output *output);
bool dump_output_forget_session(struct dump_output *output);

/* Puts it in its place. False: complained. */
bool dump_output_finish(struct dump_output *output);
void dump_output_close(struct dump_output *output);

/* Owns the mapping and the list. */
struct dump_input {
    const uint8_t *bytes;
    size_t count;
    struct dump_entry *entries;
    size_t entry_count;
};

/* False: complained; input is to be closed in either case. */
bool dump_input_open(const char *path, struct dump_input *input);
void dump_input_close(struct dump_input *input);

/* A string of an entry, to be freed. NULL without memory. */
char *dump_text(const char *text, size_t bytes);

#endif
