#include "client/cli/dump_file.h"
#include "client/cli/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_standard(const char *path) {
    return strcmp(path, "-") == 0;
}

static bool fail(struct dump_output *output, int reason) {
    if (!output->failed)
        complain("%s: cannot be written: %s",
                 is_standard(output->path) ? "standard output" : output->path, strerror(reason));
    output->failed = true;
    return false;
}

/* The new file would take the place of what is there, were it a device. */
static bool may_be_replaced(const char *path) {
    struct stat status;
    if (stat(path, &status) || S_ISREG(status.st_mode))
        return true;
    complain("%s: is there and not a file; choose another name, or - for standard output", path);
    return false;
}

bool dump_output_open(const char *path, struct dump_output *output) {
    *output = (struct dump_output){.path = path, .file = -1};
    if (is_standard(path)) {
        output->file = STDOUT_FILENO;
        return true;
    }
    if (!may_be_replaced(path))
        return false;
    if (asprintf(&output->temporary, "%s.XXXXXX", path) < 0) {
        output->temporary = NULL;
        return fail(output, ENOMEM);
    }
    output->file = mkostemp(output->temporary, O_CLOEXEC); /* of mode 0600 */
    if (output->file >= 0)
        return true;
    int reason = errno;
    free(output->temporary);
    output->temporary = NULL;
    return fail(output, reason);
}

static bool write_all(struct dump_output *output, const uint8_t *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t written = write(output->file, bytes + done, count - done);
        if (written < 0 && errno != EINTR)
            return fail(output, errno);
        if (progress_interrupted())
            return false;
        done += written < 0 ? 0 : (size_t)written;
    }
    output->bytes += count;
    return true;
}

/* What came is read as it will be read again. */
static bool is_right(struct dump_output *output, const uint8_t *bytes, size_t count) {
    struct wire_dump_bytes held;
    size_t taken;
    for (size_t at = 0; at < count; at += taken)
        if (wire_dump_read(&output->reader, bytes + at, count - at, &taken, &held) >=
            WIRE_DUMP_DAMAGED) {
            complain("the dump is damaged on its way from the daemon");
            output->failed = true;
            return false;
        }
    return true;
}

bool dump_output_write(void *context, const void *bytes, size_t count) {
    struct dump_output *output = context;
    return !progress_interrupted() && is_right(output, bytes, count) &&
           write_all(output, bytes, count);
}

void dump_output_end_session(struct dump_output *output) {
    output->sessions++;
    output->chain = wire_dump_chain(output->chain, output->reader.chain);
    output->session_start = output->bytes;
    output->reader = (struct wire_dump_reader){0};
}

bool dump_output_forget_session(struct dump_output *output) {
    output->reader = (struct wire_dump_reader){0};
    if (output->bytes == output->session_start)
        return true;
    if (!output->temporary)
        return false;
    off_t start = (off_t)output->session_start;
    if (ftruncate(output->file, start) || lseek(output->file, start, SEEK_SET) < 0)
        return fail(output, errno);
    output->bytes = output->session_start;
    return true;
}

static bool write_closing(struct dump_output *output) {
    uint8_t bytes[WIRE_DUMP_HEAD_BYTES + WIRE_DUMP_CLOSING_BYTES + WIRE_DUMP_TAIL_BYTES_MAX];
    struct wire_dump_closing closing = {output->sessions, output->bytes, output->chain};
    struct wire_dump_part part = {.kind = WIRE_DUMP_CLOSING, .bytes = WIRE_DUMP_CLOSING_BYTES};
    struct wire_dump_writer writer = {0};
    wire_dump_begin(&writer, &part, bytes);
    wire_dump_write_closing(bytes + WIRE_DUMP_HEAD_BYTES, &closing);
    wire_dump_add(&writer, bytes + WIRE_DUMP_HEAD_BYTES, WIRE_DUMP_CLOSING_BYTES);
    size_t count = WIRE_DUMP_HEAD_BYTES + WIRE_DUMP_CLOSING_BYTES;
    count += wire_dump_end(&writer, bytes + count);
    return write_all(output, bytes, count);
}

/* So that the name outlasts a loss of power. */
static bool sync_folder(struct dump_output *output) {
    char *copy = strdup(output->path);
    int folder = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool synced = folder >= 0 && fsync(folder) == 0;
    int reason = errno;
    if (folder >= 0)
        close(folder);
    free(copy);
    return synced || fail(output, reason);
}

bool dump_output_finish(struct dump_output *output) {
    if (!write_closing(output))
        return false;
    if (!output->temporary)
        return true;
    if (fsync(output->file) || rename(output->temporary, output->path))
        return fail(output, errno);
    free(output->temporary);
    output->temporary = NULL;
    return sync_folder(output);
}

void dump_output_close(struct dump_output *output) {
    if (output->temporary)
        unlink(output->temporary);
    if (output->file >= 0 && output->file != STDOUT_FILENO)
        close(output->file);
    free(output->temporary);
    output->temporary = NULL;
}
