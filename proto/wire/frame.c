#include "proto/wire/frame.h"

#include "proto/wire/errors.h"

static void put(uint8_t *bytes, uint64_t value, int count) {
    for (int i = 0; i < count; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

void wire_header_write(uint8_t bytes[WIRE_HEADER_BYTES], const struct wire_header *header) {
    put(bytes, WIRE_MAGIC, 4);
    put(bytes + 4, WIRE_VERSION_MAX, 1);
    put(bytes + 5, header->type, 1);
    put(bytes + 6, 0, 2);
    put(bytes + 8, header->request_id, 4);
    put(bytes + 12, header->control_bytes, 4);
    put(bytes + 16, header->payload_bytes, 8);
}

int wire_header_read(const uint8_t bytes[WIRE_HEADER_BYTES], struct wire_header *header) {
    uint64_t version = get(bytes + 4, 1), control = get(bytes + 12, 4),
             payload = get(bytes + 16, 8);
    if (get(bytes, 4) != WIRE_MAGIC || get(bytes + 6, 2) != 0)
        return WIRE_PROTOCOL;
    if (version < WIRE_VERSION_MIN || version > WIRE_VERSION_MAX)
        return WIRE_VERSION;
    if (control > WIRE_CONTROL_BYTES_MAX || payload > WIRE_PAYLOAD_BYTES_MAX)
        return WIRE_TOO_LARGE;
    header->type = bytes[5];
    header->request_id = (uint32_t)get(bytes + 8, 4);
    header->control_bytes = (uint32_t)control;
    header->payload_bytes = (uint32_t)payload;
    if (header->type == WIRE_DATA)
        return control == WIRE_DATA_BYTES ? WIRE_OK : WIRE_PROTOCOL;
    return payload == 0 ? WIRE_OK : WIRE_PROTOCOL;
}

void wire_data_write(uint8_t bytes[WIRE_DATA_BYTES], const struct wire_data *data) {
    put(bytes, data->first, 8);
    put(bytes + 8, data->tokens, 4);
    put(bytes + 12, data->layer, 4);
    put(bytes + 16, data->part, 1);
    put(bytes + 17, 0, 7);
}

int wire_data_read(const uint8_t bytes[WIRE_DATA_BYTES], struct wire_data *data) {
    if (get(bytes + 17, 7) != 0 || bytes[16] > WIRE_PART_VECTORS)
        return WIRE_PROTOCOL;
    data->first = get(bytes, 8);
    data->tokens = (uint32_t)get(bytes + 8, 4);
    data->layer = (uint32_t)get(bytes + 12, 4);
    data->part = bytes[16];
    return WIRE_OK;
}
