#include "tests/bench/text_protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Redis: RESP --- */

static int redis_put(char *text, const char *key, size_t value_bytes) {
    return snprintf(text, TEXT_BYTES, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key), key,
                    value_bytes);
}

static int redis_get(char *text, const char *key) {
    return snprintf(text, TEXT_BYTES, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key);
}

static int redis_answer(char *text, size_t value_bytes) {
    return snprintf(text, TEXT_BYTES, "$%zu\r\n", value_bytes);
}

/* "$LENGTH\r\n", so many bytes, "\r\n". */
static bool redis_is_complete(const char *answer, size_t bytes) {
    const char *end = memchr(answer, '\n', bytes);
    return end && bytes >= (size_t)(end + 1 - answer) + strtoul(answer + 1, NULL, 10) + 2;
}

const struct text_protocol text_protocol_redis = {
    .name = "redis",
    .program = "redis-server",
    .settings = "--port 0 --unixsocket SOCKET --save  --appendonly no --proto-max-bulk-len 1gb "
                "--loglevel warning",
    .put_request = redis_put,
    .get_request = redis_get,
    .get_answer = redis_answer,
    .put_answer = "+OK\r\n",
    .state_request = "INFO memory\r\n",
    .used = "used_memory:",
    .state_is_complete = redis_is_complete,
};

/* --- memcached: its meta commands --- */

static int memcached_put(char *text, const char *key, size_t value_bytes) {
    return snprintf(text, TEXT_BYTES, "ms %s %zu\r\n", key, value_bytes);
}

static int memcached_get(char *text, const char *key) {
    return snprintf(text, TEXT_BYTES, "mg %s v\r\n", key);
}

static int memcached_answer(char *text, size_t value_bytes) {
    return snprintf(text, TEXT_BYTES, "VA %zu\r\n", value_bytes);
}

static bool memcached_is_complete(const char *answer, size_t bytes) {
    return bytes >= 5 && !memcmp(answer + bytes - 5, "END\r\n", 5);
}

const struct text_protocol text_protocol_memcached = {
    .name = "memcached",
    .program = "memcached",
    .settings = "-s SOCKET -u USER -m 8192 -t 2 -C -R 1000",
    .put_request = memcached_put,
    .get_request = memcached_get,
    .get_answer = memcached_answer,
    .put_answer = "HD\r\n",
    .state_request = "stats\r\n",
    .used = "STAT bytes ",
    .state_is_complete = memcached_is_complete,
};
