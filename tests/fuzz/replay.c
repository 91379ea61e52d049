/* In libFuzzer's place, with any compiler: runs a target over files, and over so many changes of
 * each.
 *
 * usage: replay_X [-changes=N] [-seconds=N] FILE...
 * What breaks is written to the file broken-input, in the folder where it is started.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"

enum { LENGTH_MAX = 1 << 14, CHANGES_IN_A_ROW = 4 };

static uint8_t input[LENGTH_MAX];
static size_t input_length;
static uint64_t state;

static uint32_t random_below(uint32_t end) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % end);
}

static uint8_t random_byte(void) {
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x10, 0x40, 0xfe};
    return random_below(2) ? edges[random_below(sizeof edges)] : (uint8_t)random_below(256);
}

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length, size_t length_max) {
    size_t at = length > 0 ? random_below((uint32_t)length) : 0;
    switch (random_below(6)) {
    case 0:
        if (length == length_max)
            return length;
        memmove(bytes + at + 1, bytes + at, length - at);
        bytes[at] = random_byte();
        return length + 1;
    case 1:
        if (length < 2)
            return length;
        memmove(bytes + at, bytes + at + 1, length - at - 1);
        return length - 1;
    case 2:
        return length > 1 ? 1 + random_below((uint32_t)length) : length;
    case 3:
        if (length > 0)
            bytes[at] = (uint8_t)(bytes[at] ^ 1u << random_below(8));
        return length;
    default:
        if (length > 0)
            bytes[at] = random_byte();
        return length;
    }
}

static void change(void) {
    for (uint32_t i = 1 + random_below(CHANGES_IN_A_ROW); i > 0; i--)
        input_length = LLVMFuzzerCustomMutator
                           ? LLVMFuzzerCustomMutator(input, input_length, sizeof input,
                                                     random_below(UINT32_MAX))
                           : LLVMFuzzerMutate(input, input_length, sizeof input);
}

static void read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    must(file != NULL, path);
    input_length = fread(input, 1, sizeof input, file);
    must(fclose(file) == 0, path);
}

static void on_break(int signal_number) {
    int file = open("broken-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file >= 0 && write(file, input, input_length) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    unsigned changes = 0;
    double seconds = 1e9, begin = seconds_now();
    size_t inputs = 0;
    signal(SIGABRT, on_break);
    signal(SIGSEGV, on_break);
    for (int i = 1; i < argc; i++) {
        if (sscanf(argv[i], "-changes=%u", &changes) == 1 ||
            sscanf(argv[i], "-seconds=%lf", &seconds) == 1)
            continue;
        state = (uint64_t)i;
        for (unsigned j = 0; j <= changes && (j == 0 || seconds_now() - begin < seconds); j++) {
            read_file(argv[i]);
            if (j > 0)
                change();
            (void)LLVMFuzzerTestOneInput(input, input_length);
            inputs++;
        }
    }
    printf("%zu inputs\n", inputs);
    return inputs > 0 ? 0 : 2;
}
