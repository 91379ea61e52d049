/* Which blocks a request names. */
#include "daemon/rpc/messages.h"

uint32_t messages_read_blocks(struct rpc_request *request, const struct messages_blocks *message,
                              struct messages_block_space *space) {
    uint32_t code = messages_read_model(request, &message->model, &space->model);
    if (code)
        return code;
    if (space->model.bytes == 0 || !message->geometry)
        return rpc_fail(request, WIRE_INVALID, "blocks are those of a model and a geometry");
    if ((code = messages_read_geometry(request, message->geometry, &space->geometry)))
        return code;
    if (message->key_count > WIRE_BLOCK_KEYS_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "a request has at most %d keys",
                        WIRE_BLOCK_KEYS_MAX);
    struct store_name *keys =
        wire_arena_alloc(&request->context->arena, message->key_count * sizeof *keys);
    if (!keys)
        return rpc_fail(request, WIRE_TOO_LARGE, "the keys take more memory than is set aside");
    for (size_t i = 0; i < message->key_count; i++) {
        const ProtobufCBinaryData *key = &message->keys[i];
        if (key->len == 0 || key->len > WIRE_BLOCK_KEY_BYTES_MAX)
            return rpc_fail(request, WIRE_INVALID, "a block's key is 1 to %d bytes",
                            WIRE_BLOCK_KEY_BYTES_MAX);
        keys[i] = (struct store_name){.text = (const char *)key->data, .bytes = key->len};
    }
    space->keys = keys;
    return WIRE_OK;
}

struct block_key messages_block_key(const struct messages_block_space *space, size_t index) {
    return (struct block_key){.tenant = space->model.tenant,
                              .model = space->model.text,
                              .model_bytes = space->model.bytes,
                              .text = space->keys[index].text,
                              .text_bytes = space->keys[index].bytes,
                              .geometry = &space->geometry};
}
