#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/credential_file.h"
#include "daemon/store/disk/disk.h"

enum { HEX_BYTES = 2 * DISK_KEY_BYTES, FILE_BYTES_MAX = HEX_BYTES + 1 };

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int parse(const char *text, size_t count, uint8_t key[DISK_KEY_BYTES]) {
    if (count == DISK_KEY_BYTES) {
        memcpy(key, text, DISK_KEY_BYTES);
        return 0;
    }
    if (count != HEX_BYTES && !(count == HEX_BYTES + 1 && text[HEX_BYTES] == '\n'))
        return -1;
    for (int i = 0; i < DISK_KEY_BYTES; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return -1;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static ssize_t read_all(int file, char *text, size_t count) {
    size_t at = 0;
    ssize_t bytes;
    while (at < count && (bytes = read(file, text + at, count - at)) > 0)
        at += (size_t)bytes;
    return (ssize_t)at;
}

int disk_key_read(const char *file, uint8_t key[DISK_KEY_BYTES], char *error, size_t error_bytes) {
    char text[FILE_BYTES_MAX + 1];
    bool guarded;
    int opened = credential_file_open(file, &guarded);
    if (opened < 0) {
        snprintf(error, error_bytes, "the key file %s: %s", file, strerror(errno));
        return -1;
    }
    const char *loose = credential_file_looseness(opened, guarded);
    ssize_t count = read_all(opened, text, sizeof text);
    close(opened);
    if (loose) {
        snprintf(error, error_bytes, "the key file %s %s", file, loose);
        return -1;
    }
    int status = parse(text, (size_t)count, key);
    explicit_bzero(text, sizeof text);
    if (status < 0)
        snprintf(error, error_bytes,
                 "the key file %s holds neither 32 bytes nor 64 hexadecimal digits", file);
    return status;
}
