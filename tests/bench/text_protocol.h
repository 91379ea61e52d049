/* What tells Redis and memcached apart: how each is started and what is said to it.
 *
 * Of a value whose length is known every byte of the answer is known too but the value's own: the
 * client receives it in one piece with the value.
 */
#ifndef TESTS_BENCH_TEXT_PROTOCOL_H
#define TESTS_BENCH_TEXT_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>

enum { TEXT_BYTES = 128, TEXT_KEY_BYTES = 32, TEXT_STATE_BYTES = 1 << 16 };

struct text_protocol {
    const char *name, *program;
    const char *settings; /* of every server; SOCKET and USER in it are replaced */
    /* Write a text of less than TEXT_BYTES, what stands before a value of so many bytes. */
    int (*put_request)(char *text, const char *key, size_t value_bytes);
    int (*get_request)(char *text, const char *key);
    int (*get_answer)(char *text, size_t value_bytes);
    const char *put_answer;
    /* Asks for the server's state, in which `used` stands before what it says that it takes. */
    const char *state_request, *used;
    bool (*state_is_complete)(const char *answer, size_t bytes);
};

extern const struct text_protocol text_protocol_redis, text_protocol_memcached;

#endif
