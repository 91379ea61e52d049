/* Reads a row of limits of the table of credentials: `limit TENANT name=value ...`. */
#include <stdio.h>
#include <string.h>

#include "daemon/base/config_option.h"
#include "daemon/rpc/credentials.h"
#include "proto/wire/frame.h"

/* Less in flight and a tenant's appends could not take what they are sent. */
enum { IN_FLIGHT_LEAST = 16 * WIRE_PAYLOAD_BYTES_MAX };

struct limit {
    const char *name;
    size_t offset; /* in struct tenant_limits */
    bool is_size;
    uint64_t least;
};

#define AT(field) offsetof(struct tenant_limits, field)

static const struct limit limits[] = {
    {"memory", AT(memory_bytes), true, 1 << 20},
    {"disk", AT(disk_bytes), true, 0},
    {"sessions", AT(sessions), false, 1},
    {"connections", AT(connections), false, 1},
    {"in_flight", AT(in_flight_bytes), true, IN_FLIGHT_LEAST},
    {"requests", AT(requests), false, 1},
};

enum { LIMITS = sizeof limits / sizeof *limits };

static const struct limit *find(const char *name, size_t bytes) {
    for (int i = 0; i < LIMITS; i++)
        if (strlen(limits[i].name) == bytes && memcmp(limits[i].name, name, bytes) == 0)
            return &limits[i];
    return NULL;
}

static const char *read_limit(const char *word, struct tenant_limits *to) {
    const char *value = strchr(word, '=');
    const struct limit *limit = value ? find(word, (size_t)(value - word)) : NULL;
    if (!limit)
        return "a limit is memory=, disk=, in_flight= (sizes such as 512M), sessions=, "
               "connections= or requests= (numbers; requests a second)";
    uint64_t *field = (uint64_t *)(void *)((char *)to + limit->offset);
    if (!(limit->is_size ? config_read_size(value + 1, field)
                         : config_read_count(value + 1, field)) ||
        *field < limit->least || *field > INT64_MAX)
        return "a limit's value is a number, of memory, disk and in_flight a size such as 512M: "
               "memory at least 1M, in_flight 16M, the others but disk 1";
    return NULL;
}

const char *quota_row_read(char *const *words, int count, struct tenant_quota *row) {
    const char *fault = NULL;
    *row = (struct tenant_quota){
        .limits = {QUOTA_NONE, QUOTA_NONE, QUOTA_NONE, QUOTA_NONE, QUOTA_NONE, QUOTA_NONE}};
    if (count < 2 ||
        !(strcmp(words[0], TENANT_ANY) == 0 || tenant_is_name(words[0], strlen(words[0]))))
        return "a line of limits is `limit TENANT name=value ...`, where * is every tenant "
               "without a line of its own";
    snprintf(row->tenant, sizeof row->tenant, "%s", words[0]);
    for (int i = 1; i < count && !fault; i++)
        fault = read_limit(words[i], &row->limits);
    return fault;
}
