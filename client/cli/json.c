#include "client/cli/json.h"

#include <inttypes.h>
#include <math.h>

static void write_string(struct json *json, const char *text) {
    fputc('"', json->out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(json->out, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            fprintf(json->out, "\\u%04x", *c);
        else
            fputc(*c, json->out);
    }
    fputc('"', json->out);
}

static void new_line(struct json *json) {
    fprintf(json->out, "\n%*s", 2 * json->depth, "");
}

static void begin_value(struct json *json, const char *name) {
    if (json->has_members)
        fputc(',', json->out);
    if (json->depth > 0)
        new_line(json);
    json->has_members = true;
    if (name) {
        write_string(json, name);
        fputs(": ", json->out);
    }
}

static void open_group(struct json *json, const char *name, char bracket) {
    begin_value(json, name);
    fputc(bracket, json->out);
    json->depth++;
    json->has_members = false;
}

static void close_group(struct json *json, char bracket) {
    json->depth--;
    if (json->has_members)
        new_line(json);
    fputc(bracket, json->out);
    json->has_members = true;
}

void json_open_object(struct json *json, const char *name) {
    open_group(json, name, '{');
}

void json_close_object(struct json *json) {
    close_group(json, '}');
}

void json_open_array(struct json *json, const char *name) {
    open_group(json, name, '[');
}

void json_close_array(struct json *json) {
    close_group(json, ']');
}

void json_string(struct json *json, const char *name, const char *text) {
    begin_value(json, name);
    if (text)
        write_string(json, text);
    else
        fputs("null", json->out);
}

void json_count(struct json *json, const char *name, uint64_t count) {
    begin_value(json, name);
    fprintf(json->out, "%" PRIu64, count);
}

void json_integer(struct json *json, const char *name, int64_t number) {
    begin_value(json, name);
    fprintf(json->out, "%" PRId64, number);
}

void json_real(struct json *json, const char *name, double number) {
    begin_value(json, name);
    if (isfinite(number))
        fprintf(json->out, "%.9g", number);
    else
        fputs("null", json->out);
}

void json_bool(struct json *json, const char *name, bool yes) {
    begin_value(json, name);
    fputs(yes ? "true" : "false", json->out);
}

void json_end(struct json *json) {
    fputc('\n', json->out);
}
