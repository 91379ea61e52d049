/* libFuzzer: any bytes as the configuration's file, at the start and on a reload. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/config.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"

static void read_again(const char *path) {
    struct config config, fresh;
    struct config_changes changes;
    char message[800];
    must(config_init(&config) == 0 && config_init(&fresh) == 0, "the defaults are valid");
    message[0] = '\0';
    if (config_read(&fresh, path, message, sizeof message) == 0 &&
        config_finish(&fresh, message, sizeof message) == 0)
        config_take_live(&config, &fresh, &changes);
    else
        must(message[0] != '\0', "what is refused is told why");
    config_deinit(&config);
    config_deinit(&fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static int file = -1;
    static char path[32];
    if (file < 0)
        file = memfd_create("configuration", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    must(ftruncate(file, 0) == 0 && pwrite(file, bytes, length, 0) == (ssize_t)length,
         "a file in memory can be written");
    read_again(path);
    return 0;
}
