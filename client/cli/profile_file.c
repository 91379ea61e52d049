/* Profiles out of JSON. */
#include "client/cli/profile.h"

#include "client/cli/command.h"
#include "client/cli/words.h"
#include "proto/page/page.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct built_in {
    const char *name, *text;
} built_ins[] = {{
    "tiny",
#include <profiles/tiny.inc>
}};
enum { BUILT_INS = sizeof built_ins / sizeof *built_ins };

static void free_json(json_t **json) {
    json_decref(*json);
}
#define JSON_CLEANUP __attribute__((cleanup(free_json)))

static json_t *read_json(const char *name) {
    json_error_t error;
    json_t *json = NULL;
    size_t length = strlen(name);
    if (strchr(name, '/') || (length > 5 && strcmp(name + length - 5, ".json") == 0)) {
        json = json_load_file(name, JSON_REJECT_DUPLICATES, &error);
        if (!json && error.line > 0)
            complain("%s: line %d: %s", name, error.line, error.text);
        else if (!json)
            complain("%s", error.text);
        return json;
    }
    for (int i = 0; i < BUILT_INS; i++)
        if (strcmp(built_ins[i].name, name) == 0)
            json = json_loads(built_ins[i].text, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        complain("no profile \"%s\"; there is tiny, or write FILE.json", name);
    return json;
}

static bool take_count(const json_t *json, uint64_t least, uint64_t most, uint64_t *count) {
    json_int_t value = json_integer_value(json); /* 0 of what is no integer */
    *count = value < 0 ? 0 : (uint64_t)value;
    return json_is_integer(json) && value >= 0 && *count >= least && *count <= most;
}

static bool take_small(const json_t *json, uint32_t least, uint32_t most, uint32_t *count) {
    uint64_t value;
    bool good = take_count(json, least, most, &value);
    *count = (uint32_t)value;
    return good;
}

static bool take_name(const char *text, char name[PROFILE_NAME_BYTES]) {
    return text && text[0] != '\0' && snprintf(name, PROFILE_NAME_BYTES, "%s", text) > 0 &&
           strlen(text) < PROFILE_NAME_BYTES;
}

static bool take_shape(const json_t *json, struct profile *profile) {
    enum { DIMENSIONS = 4, AXIS_MAX = 1024 };
    uint32_t batch;
    return json_array_size(json) == DIMENSIONS &&
           take_small(json_array_get(json, 0), 1, 1, &batch) &&
           take_small(json_array_get(json, 1), 1, AXIS_MAX, &profile->heads) &&
           take_count(json_array_get(json, 2), 1, 1 << 16, &profile->tokens) &&
           take_small(json_array_get(json, 3), 1, AXIS_MAX, &profile->head_dim) &&
           page_tokens(profile->heads, profile->head_dim, profile->head_dim) > 0;
}

static bool take_level(const json_t *json, int *level) {
    uint32_t number;
    if (json_is_string(json)) /* of digits it is a number that it shall be */
        return level_from_name(json_string_value(json), level) && *level < KVQ_LEVEL_FINEST;
    bool good = take_small(json, KVQ_LEVEL_FINEST, KVQ_LEVEL_COARSEST, &number);
    *level = (int)number;
    return good;
}

static bool take_ages(const json_t *json, struct profile *profile) {
    uint64_t tokens = 0;
    size_t count = json_array_size(json);
    if (count < 1 || count > PROFILE_AGES_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *age = json_array_get(json, i);
        struct profile_age *to = &profile->ages[i];
        if (!take_count(json_object_get(age, "tokens"), 1, profile->tokens, &to->tokens) ||
            !take_level(json_object_get(age, "level"), &to->level))
            return false;
        tokens += to->tokens;
    }
    profile->age_count = (int)count;
    return tokens == profile->tokens;
}

static bool take_processors(json_t *json, struct profile *profile) {
    const char *name;
    json_t *needed;
    profile->processor_count = 0;
    if (json && (!json_is_object(json) || json_object_size(json) > PROFILE_PROCESSORS_MAX))
        return false;
    json_object_foreach(json, name, needed) {
        struct profile_processor *to = &profile->processors[profile->processor_count++];
        if (!take_name(name, to->name) || !take_count(needed, 0, UINT32_MAX, &to->stack_bytes))
            return false;
    }
    return true;
}

static bool take_decoder(const json_t *json, struct profile *profile) {
    return take_count(json_object_get(json, "ram_bytes"), 0, UINT32_MAX, &profile->ram_bytes_max) &&
           take_count(json_object_get(json, "stack_bytes"), 0, UINT32_MAX,
                      &profile->stack_bytes_max) &&
           take_processors(json_object_get(json, "stack_needed_bytes"), profile);
}

/* The member that is not as it should be; NULL if all are. */
static const char *take_members(const json_t *json, struct profile *profile) {
    const json_t *dtype = json_object_get(json, "dtype");
    profile->target_ratio = json_number_value(json_object_get(json, "target_ratio"));
    if (!take_name(json_string_value(json_object_get(json, "name")), profile->name))
        return "name";
    if (!take_shape(json_object_get(json, "shape"), profile))
        return "shape";
    if (!take_small(json_object_get(json, "layers"), 1, 256, &profile->layers))
        return "layers";
    if (!json_is_string(dtype) || strcmp(json_string_value(dtype), "float16") != 0)
        return "dtype";
    if (!take_small(json_object_get(json, "sink_tokens"), 0, PAGE_TOKENS_MAX,
                    &profile->sink_tokens))
        return "sink_tokens";
    if (!take_ages(json_object_get(json, "ages"), profile))
        return "ages";
    if (!(profile->target_ratio >= 1))
        return "target_ratio";
    return take_decoder(json_object_get(json, "decoder"), profile) ? NULL : "decoder";
}

bool profile_load(const char *name, struct profile *profile) {
    JSON_CLEANUP json_t *json = read_json(name);
    if (!json)
        return false;
    const char *faulty = take_members(json, profile);
    if (faulty)
        complain("%s: \"%s\" is not as profile.schema.json has it", name, faulty);
    return faulty == NULL;
}
