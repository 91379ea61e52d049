#include "tests/tiny/semihosting.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { OPEN_BINARY_TO_READ = 1, APPLICATION_EXIT = 0x20026 };

static int32_t call_host(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

int32_t host_open(const char *path) {
    const uintptr_t arguments[] = {(uintptr_t)path, OPEN_BINARY_TO_READ, length_of(path)};
    return call_host(SYS_OPEN, arguments);
}

bool host_read(int32_t file, void *bytes, size_t count) {
    const uintptr_t arguments[] = {(uintptr_t)file, (uintptr_t)bytes, count};
    return call_host(SYS_READ, arguments) == 0; /* else how many bytes are missing */
}

void host_print(const char *text) {
    call_host(SYS_WRITE0, text);
}

void host_print_number(const char *name, uint32_t number) {
    char digits[11] = "";
    size_t first = sizeof digits - 1;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    host_print(name);
    host_print(" ");
    host_print(digits + first);
    host_print("\n");
}

void host_exit(uint32_t status) {
    const uintptr_t arguments[] = {APPLICATION_EXIT, status};
    call_host(SYS_EXIT_EXTENDED, arguments);
    for (;;) {
    }
}
