/* libFuzzer: any bytes as an HTTP request to the metrics and the status page of a daemon that has a
 * session of any name. What is answered is whole: JSON that has the name as it is, metrics that are
 * lines, a length that is true.
 *
 * The first byte says how long the name is that follows; the rest is the request.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/ops/monitor.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/server.h"

enum { ANSWER_BYTES_MAX = 1 << 20 };

static struct monitor monitor;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char answer[ANSWER_BYTES_MAX + 1];

static void remove_socket(void) {
    unlink(address.sun_path);
}

static void start(void) {
    static uv_loop_t loop;
    struct metrics_sources sources;
    server_reset();
    sources = server_sources();
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/kvquant-http-%d", (int)getpid());
    must(uv_loop_init(&loop) == 0, "there is a loop");
    monitor_init(&monitor, &loop);
    must(monitor_start(&monitor, address.sun_path, 0600, &sources) == 0, "the page is served");
    timeline_add(&monitor.timeline, timeline_sample(sources.rpc));
    atexit(remove_socket);
}

/* As the daemon takes it of a client; its characters are looked at by whoever tries this. */
static bool can_be_name(const char *name, size_t bytes) {
    json_t *text = json_stringn(name, bytes);
    bool is_utf8 = text != NULL;
    json_decref(text);
    for (size_t i = 0; i < bytes; i++)
        if (iscntrl((unsigned char)name[i]))
            return false;
    return is_utf8 && bytes > 0;
}

static bool add_session(const char *name, size_t bytes) {
    struct session_state state;
    struct geometry geometry = {
        .layers = 1, .heads = 1, .head_dim_k = 8, .head_dim_v = 8, .dtype = PAGE_F16};
    struct store_open request = {.session = {name, bytes, NULL},
                                 .model = {name, bytes, NULL},
                                 .geometry = &geometry,
                                 .policy = {.level = 3, .newest_level = 3, .floor = 3}};
    if (!can_be_name(name, bytes))
        return false;
    monitor.table.made_ns = 0; /* or it were the one of before */
    return store_open(server_sources().rpc->store, &request, &state) == STORE_OK;
}

static void send_all(int connected, const void *bytes, size_t count) {
    for (ssize_t sent; count > 0; bytes = (const char *)bytes + sent, count -= (size_t)sent)
        if ((sent = send(connected, bytes, count, MSG_NOSIGNAL)) < 0)
            return;
}

/* All that is answered until the end. For that of a head that does not end it would wait. */
static size_t ask(const uint8_t *bytes, size_t count) {
    int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(connected, (struct sockaddr *)&address, sizeof address) == 0, "it listens");
    send_all(connected, bytes, count);
    send_all(connected, "\r\n\r\n", 4);
    shutdown(connected, SHUT_WR);
    size_t length = 0;
    for (ssize_t got; length < ANSWER_BYTES_MAX; length += (size_t)got)
        if ((got = recv(connected, answer + length, ANSWER_BYTES_MAX - length, 0)) <= 0)
            break;
    close(connected);
    answer[length] = '\0';
    return length;
}

static void check_metrics(const char *body) {
    for (const char *line = body, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        must(end != NULL, "each line of the metrics ends");
        must(*line == '#' || strncmp(line, "kvquantd_", 9) == 0,
             "each line is a metric or a comment");
    }
}

static void check_json(const char *body, const char *name, size_t name_bytes) {
    json_t *told = json_loads(body, 0, NULL);
    must(told != NULL, "the status is JSON");
    json_t *rows = json_object_get(json_object_get(told, "sessions"), "largest");
    must(json_array_size(rows) == (name != NULL), "the session is among the largest");
    json_t *found = json_object_get(json_array_get(rows, 0), "session");
    must(!name || (json_string_length(found) == name_bytes &&
                   memcmp(json_string_value(found), name, name_bytes) == 0),
         "it has its name");
    json_decref(told);
}

static bool has(const char *head, const char *end, const char *text) {
    const char *found = strstr(head, text);
    return found && found < end;
}

/* The first answer, of a request with GET. */
static void check(size_t length, const char *name, size_t name_bytes) {
    char *end = strstr(answer, "\r\n\r\n"), *said = strcasestr(answer, "Content-Length: ");
    must(strncmp(answer, "HTTP/1.", 7) == 0 && end != NULL, "an answer has a head");
    must(said != NULL && said < end, "it says how long it is");
    char *body = end + 4;
    size_t bytes = strtoull(said + 16, NULL, 10), there = length - (size_t)(body - answer);
    must(there >= bytes, "it is as long as it says");
    body[bytes] = '\0';
    must(strlen(body) == bytes, "it is text");
    if (!has(answer, end, " 200 "))
        return;
    if (has(answer, end, "application/json"))
        check_json(body, name, name_bytes);
    else if (has(answer, end, "openmetrics") || has(answer, end, "version=0.0.4"))
        check_metrics(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length < 1 || (size_t)bytes[0] + 1 > length)
        return 0;
    if (!monitor.initialised)
        start();
    server_reset();
    const char *name = (const char *)bytes + 1;
    size_t name_bytes = bytes[0], begin = 1 + name_bytes;
    bool named = add_session(name, name_bytes);
    monitor.table.made_ns = 0;
    size_t got = ask(bytes + begin, length - begin);
    if (got > 0 && length - begin > 4 && memcmp(bytes + begin, "GET ", 4) == 0)
        check(got, named ? name : NULL, name_bytes);
    return 0;
}
