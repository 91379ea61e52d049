/* The target's way out: the debugger's services, which qemu has. */
#ifndef TESTS_TINY_SEMIHOSTING_H
#define TESTS_TINY_SEMIHOSTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file of the host, to read; negative if it cannot be had. */
int32_t host_open(const char *path);

/* False if the file ends before. */
bool host_read(int32_t file, void *bytes, size_t count);

void host_print(const char *text);
void host_print_number(const char *name, uint32_t number);

_Noreturn void host_exit(uint32_t status);

#endif
