#include "tests/bench/text_store.h"

#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/socket_io.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE_TOKENS = 128, PIECES_MAX = 512, ANSWER_SECONDS_MAX = 20, WORDS_MAX = 40 };

/* --- the server --- */

static const char *replaced(const char *word, const struct text_store *store) {
    const struct passwd *user = getpwuid(geteuid());
    if (!strcmp(word, "SOCKET"))
        return store->socket;
    if (!strcmp(word, "USER"))
        return user ? user->pw_name : "nobody";
    return word;
}

/* Two spaces in a row are an empty word. */
static size_t cut(char *settings, const struct text_store *store, const char **words,
                  size_t count) {
    for (char *word; (word = strsep(&settings, " ")) && count + 1 < WORDS_MAX;)
        words[count++] = replaced(word, store);
    return count;
}

static _Noreturn void run_server(const struct text_store *store, const char *folder) {
    char *shared = strdup(store->protocol->settings);
    char *own = strdup(store->settings ? store->settings : "");
    const char *words[WORDS_MAX] = {store->protocol->program};
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!shared || !own || quiet < 0 || chdir(folder))
        fail(folder);
    size_t count = cut(shared, store, words, 1);
    count = store->settings ? cut(own, store, words, count) : count;
    words[count] = NULL;
    dup2(quiet, STDOUT_FILENO);
    execvp(words[0], (char *const *)words);
    fail(words[0]);
}

void text_store_start(struct text_store *store, const char *folder) {
    static unsigned number; /* servers of one run have sockets of their own */
    double end = clock_seconds() + ANSWER_SECONDS_MAX;
    struct stat status;
    snprintf(store->socket, sizeof store->socket, "%s/peer-%u", folder, number++);
    store->pid = fork();
    if (store->pid < 0)
        fail("fork");
    if (store->pid == 0)
        run_server(store, folder);
    while (stat(store->socket, &status)) {
        if (waitpid(store->pid, NULL, WNOHANG) != 0 || clock_seconds() > end)
            fail_because("%s did not start", store->protocol->program);
        usleep(20000);
    }
}

void text_store_stop(struct text_store *store) {
    kill(store->pid, SIGTERM);
    waitpid(store->pid, NULL, 0);
}

/* --- values --- */

struct text_connection {
    const struct text_store *store;
    int socket;
};

/* The pages of a value: count of them from first, each step pages after the last. */
struct value {
    size_t first, step, count;
    char key[TEXT_KEY_BYTES];
};

static size_t runs(const struct workload *workload) {
    return workload->tokens / PAGE_TOKENS;
}

static size_t value_count(const struct text_store *store, const struct workload *workload) {
    return store->chunks ? runs(workload) : workload->session_bytes / workload->page_bytes;
}

static struct value value_of(const struct text_store *store, const struct workload *workload,
                             uint32_t session, size_t index) {
    size_t pages = workload->session_bytes / workload->page_bytes;
    struct value value = {.first = index, .step = 1, .count = 1};
    if (store->chunks) {
        value.step = runs(workload);
        value.count = pages / value.step;
    }
    snprintf(value.key, sizeof value.key, "%u:%zu", session, index);
    return value;
}

/* The value's pieces of a session's memory, between a text before and the line's end behind.
 * Returns how many pieces there are. */
static size_t pieces_of(const struct value *value, const struct workload *workload, char *memory,
                        char *before, size_t before_bytes, char *behind, struct iovec *pieces) {
    if (value->count + 2 > PIECES_MAX)
        fail_because("a value has too many pieces");
    pieces[0] = (struct iovec){before, before_bytes};
    for (size_t i = 0; i < value->count; i++)
        pieces[i + 1] = (struct iovec){
            memory + (value->first + i * value->step) * workload->page_bytes, workload->page_bytes};
    pieces[value->count + 1] = (struct iovec){behind, 2};
    return value->count + 2;
}

/* Moves all pieces by send (true) or receive; they are used up. */
static void move_all(int socket, struct iovec *pieces, size_t count, bool out) {
    while (count > 0) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t moved =
            out ? sendmsg(socket, &message, MSG_NOSIGNAL) : recvmsg(socket, &message, MSG_WAITALL);
        if (moved <= 0 && errno != EINTR)
            fail("a neighbour's connection");
        for (size_t left = moved > 0 ? (size_t)moved : 0;
             left > 0 || (count && !pieces->iov_len);) {
            size_t taken = left < pieces->iov_len ? left : pieces->iov_len;
            pieces->iov_base = (char *)pieces->iov_base + taken;
            pieces->iov_len -= taken;
            left -= taken;
            if (pieces->iov_len == 0) {
                pieces++;
                count--;
            }
        }
    }
}

static size_t value_bytes(const struct value *value, const struct workload *workload) {
    return value->count * workload->page_bytes;
}

static void append(void *argument, const struct workload *workload, uint32_t session) {
    const struct text_connection *connection = argument;
    const struct text_protocol *protocol = connection->store->protocol;
    size_t count = value_count(connection->store, workload);
    char text[TEXT_BYTES], answer[TEXT_BYTES], end[2] = "\r\n";
    struct iovec pieces[PIECES_MAX];
    for (size_t i = 0; i < count; i++) {
        struct value value = value_of(connection->store, workload, session, i);
        int bytes = protocol->put_request(text, value.key, value_bytes(&value, workload));
        size_t used = pieces_of(&value, workload, workload->source[session], text, (size_t)bytes,
                                end, pieces);
        move_all(connection->socket, pieces, used, true);
    }
    size_t answer_bytes = strlen(protocol->put_answer);
    for (size_t i = 0; i < count; i++)
        if (!receive_all(connection->socket, answer, answer_bytes) ||
            memcmp(answer, protocol->put_answer, answer_bytes) != 0)
            fail_because("%s refused a value: %.*s", protocol->name, (int)answer_bytes, answer);
}

static void ask_for(const struct text_connection *connection, const struct workload *workload,
                    uint32_t session, size_t index) {
    char text[TEXT_BYTES];
    struct value value = value_of(connection->store, workload, session, index);
    int bytes = connection->store->protocol->get_request(text, value.key);
    send_all(connection->socket, text, (size_t)bytes);
}

static void receive(const struct text_connection *connection, const struct workload *workload,
                    uint32_t session, size_t index) {
    const struct text_protocol *protocol = connection->store->protocol;
    char expected[TEXT_BYTES], answer[TEXT_BYTES], end[2];
    struct iovec pieces[PIECES_MAX];
    struct value value = value_of(connection->store, workload, session, index);
    int bytes = protocol->get_answer(expected, value_bytes(&value, workload));
    size_t count =
        pieces_of(&value, workload, workload->target[session], answer, (size_t)bytes, end, pieces);
    move_all(connection->socket, pieces, count, false);
    if (memcmp(answer, expected, (size_t)bytes) != 0)
        fail_because("%s does not give a value back: %.*s", protocol->name, bytes, answer);
}

static void fetch(void *argument, const struct workload *workload, uint32_t session) {
    const struct text_connection *connection = argument;
    size_t count = value_count(connection->store, workload);
    size_t ahead = connection->store->in_flight < count ? connection->store->in_flight : count;
    for (size_t i = 0; i < ahead; i++)
        ask_for(connection, workload, session, i);
    for (size_t i = 0; i < count; i++) {
        receive(connection, workload, session, i);
        if (i + ahead < count)
            ask_for(connection, workload, session, i + ahead);
    }
}

/* --- connections --- */

static void *connect_text(void *context) {
    struct text_store *store = context;
    struct text_connection *connection = malloc(sizeof *connection);
    struct timeval patience = {.tv_sec = ANSWER_SECONDS_MAX};
    if (!connection)
        fail("malloc");
    *connection = (struct text_connection){store, connect_to("unix", store->socket, 0)};
    tune_socket(connection->socket, store->buffer_bytes);
    if (setsockopt(connection->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))
        fail("SO_RCVTIMEO");
    return connection;
}

static void disconnect_text(void *argument) {
    struct text_connection *connection = argument;
    close(connection->socket);
    free(connection);
}

static double used_bytes(const struct text_connection *connection) {
    static char answer[TEXT_STATE_BYTES];
    const struct text_protocol *protocol = connection->store->protocol;
    size_t bytes = 0;
    send_all(connection->socket, protocol->state_request, strlen(protocol->state_request));
    while (!protocol->state_is_complete(answer, bytes)) {
        ssize_t got = recv(connection->socket, answer + bytes, sizeof answer - 1 - bytes, 0);
        if (got <= 0)
            fail_because("%s does not tell its state", protocol->name);
        bytes += (size_t)got;
    }
    answer[bytes] = 0;
    const char *used = strstr(answer, protocol->used);
    if (!used)
        fail_because("%s does not tell what it uses", protocol->name);
    return strtod(used + strlen(protocol->used), NULL);
}

static double rss_bytes(pid_t pid) {
    char path[64];
    unsigned long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%*u %lu", &pages) != 1)
        fail(path);
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static struct contender_memory memory(void *argument) {
    const struct text_connection *connection = argument;
    return (struct contender_memory){used_bytes(connection), rss_bytes(connection->store->pid)};
}

struct contender text_store_contender(struct text_store *store) {
    return (struct contender){
        .name = store->protocol->name,
        .variant = store->variant,
        .level = "",
        .exact = true,
        .context = store,
        .connect = connect_text,
        .disconnect = disconnect_text,
        .append = append,
        .fetch = fetch,
        .memory = memory,
    };
}
