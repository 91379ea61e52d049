/* Writes one JSON value to a stream, indented by two. Commas and indentation are kept here. */
#ifndef CLIENT_CLI_JSON_H
#define CLIENT_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    int depth;
    bool has_members; /* of the object or array that is open */
};

/* name is the member's in an object, NULL in an array and at the top. */
void json_open_object(struct json *json, const char *name);
void json_close_object(struct json *json);
void json_open_array(struct json *json, const char *name);
void json_close_array(struct json *json);
void json_string(struct json *json, const char *name, const char *text); /* null if NULL */
void json_count(struct json *json, const char *name, uint64_t count);
void json_integer(struct json *json, const char *name, int64_t number);
void json_real(struct json *json, const char *name, double number); /* null if not finite */
void json_bool(struct json *json, const char *name, bool yes);

/* Ends the text. */
void json_end(struct json *json);

#endif
