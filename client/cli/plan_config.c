/* The geometry in a model's config.json, as Hugging Face's libraries write it. */
#include "client/cli/command.h"
#include "client/cli/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void free_json(json_t **json) {
    json_decref(*json);
}
#define JSON_CLEANUP __attribute__((cleanup(free_json)))

/* A model of text and images has the text's part in an object of its own. */
static const json_t *text_config(const json_t *json) {
    const json_t *part = json_object_get(json, "text_config");
    return json_is_object(part) ? part : json;
}

bool plan_is_config(const char *path) {
    JSON_CLEANUP json_t *json = json_load_file(path, 0, NULL);
    return json_object_get(text_config(json), "num_hidden_layers") != NULL;
}

/* False if it is there and no number from 1 to 2^20. */
static bool take_number(const json_t *json, const char *name, uint32_t *number) {
    enum { MOST = 1 << 20 };
    const json_t *member = json_object_get(json, name);
    if (!member || json_is_null(member))
        return true;
    json_int_t value = json_integer_value(member);
    *number = (uint32_t)value;
    return value > 0 && value <= MOST;
}

/* Neither latent attention nor layers of several kinds have K and V of one shape in each layer. */
static bool has_plain_layers(const json_t *json) {
    const json_t *kinds = json_object_get(json, "layer_types"), *kind;
    size_t i;
    json_array_foreach(kinds, i, kind) {
        if (!json_is_string(kind) || strcmp(json_string_value(kind), "full_attention") != 0)
            return false;
    }
    return !json_is_integer(json_object_get(json, "kv_lora_rank"));
}

static enum kvq_dtype dtype_of(const json_t *json) {
    const json_t *name = json_object_get(json, "torch_dtype");
    if (!name)
        name = json_object_get(json, "dtype");
    if (!json_is_string(name))
        return KVQ_F16;
    if (strcmp(json_string_value(name), "bfloat16") == 0)
        return KVQ_BF16;
    return strcmp(json_string_value(name), "float32") == 0 ? KVQ_F32 : KVQ_F16;
}

/* The member that is missing or cannot be; NULL if all is there. */
static const char *take_geometry(const json_t *json, struct kvq_geometry *geometry) {
    uint32_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0, hidden = 0;
    if (!take_number(json, "num_hidden_layers", &layers) || layers == 0)
        return "num_hidden_layers";
    if (!take_number(json, "num_attention_heads", &heads) || heads == 0)
        return "num_attention_heads";
    kv_heads = heads;
    if (!take_number(json, "num_key_value_heads", &kv_heads))
        return "num_key_value_heads";
    if (!take_number(json, "hidden_size", &hidden))
        return "hidden_size";
    head_dim = hidden / heads;
    if (!take_number(json, "head_dim", &head_dim) || head_dim == 0)
        return "head_dim";
    *geometry = (struct kvq_geometry){.layers = layers,
                                      .heads = kv_heads,
                                      .head_dim_k = head_dim,
                                      .head_dim_v = head_dim,
                                      .dtype = dtype_of(json)};
    return NULL;
}

bool plan_read_config(const char *path, struct kvq_geometry *geometry) {
    JSON_CLEANUP json_t *json = json_load_file(path, 0, NULL);
    const json_t *config = text_config(json);
    if (!has_plain_layers(config)) {
        complain("%s: its layers do not all keep K and V of all tokens, which kvquantd asks for",
                 path);
        return false;
    }
    const char *faulty = take_geometry(config, geometry);
    if (faulty)
        complain("%s: \"%s\" is missing, or cannot be", path, faulty);
    return faulty == NULL;
}
