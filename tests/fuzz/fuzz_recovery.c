/* libFuzzer: any values on disk - chunks with summaries of their keys, sessions' manifests, tails,
 * attachments, embeddings - to a daemon that starts with them, and what a client then asks of it.
 *
 * The input is values (values.h), then what the client sends, as one piece.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/frames.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/server.h"
#include "tests/fuzz/values.h"

enum { PATH_BYTES = 64 };

static void empty_folder(const char *path) {
    DIR *folder = opendir(path);
    must(folder != NULL, "the folder is there");
    for (struct dirent *entry; (entry = readdir(folder));)
        (void)unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
}

static const char *folder_of_this_process(void) {
    static char path[PATH_BYTES];
    if (path[0])
        return path;
    snprintf(path, sizeof path, "%s", "/dev/shm/kvquant-fuzz-XXXXXX");
    must(mkdtemp(path) != NULL, "there is a file system in memory");
    return path;
}

static void remove_folder(void) {
    empty_folder(folder_of_this_process());
    rmdir(folder_of_this_process());
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static bool prepared;
    const char *folder = folder_of_this_process();
    if (!prepared)
        atexit(remove_folder);
    prepared = true;
    size_t at = values_write(folder, bytes, length);
    server_start(folder);
    server_connect();
    (void)server_take(bytes + at, length - at);
    server_disconnect();
    server_stop();
    empty_folder(folder);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t length_max, unsigned seed) {
    if (seed % 8 != 0 && values_change(bytes, length, seed / 8))
        return length;
    size_t at = values_end(bytes, length);
    return at + frames_change(bytes + at, length - at, length_max - at, seed / 8);
}
