/* Connecting, and what is said when something fails. */
#include "client/cli/command.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("kvq: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static const char *advice(int error) {
    switch (error) {
    case KVQ_MISS:
        return "; `kvq sessions` lists what is there";
    case KVQ_EXISTS:
        return "; add --append or --replace, or choose another name";
    case KVQ_MODEL_MISMATCH:
        return "; `kvq info` shows the session's";
    case KVQ_FULL:
        return "; delete sessions, or start kvquantd with more --memory";
    case KVQ_QUOTA:
        return "; `kvq status` shows what is used of it";
    case KVQ_BUSY:
    case KVQ_TAIL_MOVED:
    case KVQ_WRONG_FIRST:
    case KVQ_TOO_MANY_REQUESTS:
    case KVQ_SHUTTING_DOWN:
    case KVQ_CONNECTION_LOST:
    case KVQ_DEADLINE:
        return "; try again";
    case KVQ_UNAUTHENTICATED:
        return "; --token-file or, over TLS, --tls-certificate says whose client this is";
    case KVQ_VERSION:
    case KVQ_UNKNOWN_OPERATION:
        return "; kvq and kvquantd are of versions too far apart";
    default:
        return "";
    }
}

enum exit_status report_failure(const struct kvq_client *client, int error) {
    if (error == KVQ_CANCELLED) {
        complain("stopped; nothing of it is left");
        return EXIT_FAILED;
    }
    complain("%s%s", client ? kvq_client_message(client) : kvq_error_sentence(error),
             advice(error));
    return error == KVQ_MISS ? EXIT_MISS : EXIT_FAILED;
}

enum exit_status report_session_failure(const struct kvq_client *client, int error,
                                        const char *session) {
    if (error != KVQ_MISS)
        return report_failure(client, error);
    complain("no session \"%s\"%s", session, advice(error));
    return EXIT_MISS;
}

enum exit_status report_too_few_tokens(const struct kvq_session_state *state) {
    complain("session %s has %llu tokens only", state->session, (unsigned long long)state->tokens);
    return EXIT_MISS;
}

int open_client(const struct options *options, int64_t deadline_ms, struct kvq_client **client) {
    struct kvq_connect_options connect = {.size = sizeof connect,
                                          .socket = options->socket,
                                          .token_file = options->token_file,
                                          .tls_ca = options->tls_ca,
                                          .tls_certificate = options->tls_certificate,
                                          .tls_key = options->tls_key,
                                          .tls_name = options->tls_name,
                                          .deadline_ms = deadline_ms,
                                          .name = "kvq"};
    return kvq_connect(&connect, client);
}

static enum exit_status connect_within(const struct options *options, int64_t deadline_ms,
                                       struct kvq_client **client) {
    int error = open_client(options, deadline_ms, client);
    return error ? report_failure(*client, error) : EXIT_DONE;
}

enum exit_status connect_client(const struct options *options, struct kvq_client **client) {
    return connect_within(options, 0, client);
}

enum exit_status connect_patient_client(const struct options *options, struct kvq_client **client) {
    return connect_within(options, -1, client);
}

void close_client(struct kvq_client **client) {
    kvq_close(*client);
}
