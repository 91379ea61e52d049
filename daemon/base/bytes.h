/* Little-endian numbers in bytes. */
#ifndef DAEMON_BASE_BYTES_H
#define DAEMON_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline void bytes_put(uint8_t *bytes, uint64_t value, int count) {
    for (int i = 0; i < count; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t bytes_get(const uint8_t *bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static inline void bytes_put_float(uint8_t *bytes, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bytes_put(bytes, bits, 4);
}

static inline float bytes_get_float(const uint8_t *bytes) {
    uint32_t bits = (uint32_t)bytes_get(bytes, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double bytes_get_double(const uint8_t *bytes) {
    uint64_t bits = bytes_get(bytes, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void bytes_put_double(uint8_t *bytes, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bytes_put(bytes, bits, 8);
}

#endif
