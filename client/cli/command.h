/* The commands of kvq, their options, and how they end.
 *
 * A command is a row of the table in commands.c. It gets its options parsed, prints what was asked
 * on stdout, and at most one line on stderr that says what went wrong and what to do. These tables
 * are all that --help, the manual page and the completion are made from.
 */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

#include "client/c/kvq.h"

enum exit_status { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_MISS = 3 };

enum option_flag {
    OPTION_SOCKET = 1 << 0,
    OPTION_JSON = 1 << 1,
    OPTION_MODEL = 1 << 2,
    OPTION_LEVEL = 1 << 3,
    OPTION_ROPE = 1 << 4,
    OPTION_DTYPE = 1 << 5,
    OPTION_APPEND = 1 << 6,
    OPTION_REPLACE = 1 << 7,
    OPTION_TOKENS = 1 << 8,
    OPTION_LAYERS = 1 << 9,
    OPTION_FIRST_TOKENS = 1 << 10,
    OPTION_FOR = 1 << 11,
    OPTION_OFF = 1 << 12,
    OPTION_NO_WAIT = 1 << 13,
    OPTION_PREFIX = 1 << 14,
    OPTION_IDLE = 1 << 15,
    OPTION_OLDER = 1 << 16,
    OPTION_PINNED_TOO = 1 << 17,
    OPTION_DRY_RUN = 1 << 18,
    OPTION_SORT = 1 << 19,
    OPTION_NAMES = 1 << 20,
    OPTION_SEED = 1 << 21,
    OPTION_SECONDS = 1 << 22,
    OPTION_MIN_SNR = 1 << 23,
    OPTION_FLOOR = 1 << 24,
    OPTION_NEWEST = 1 << 25,
    OPTION_IDLE_STEP = 1 << 26,
    OPTION_TTL = 1 << 27,
    OPTION_MEMORY = 1 << 28,
    OPTION_IDS = 1 << 29,
    OPTION_DURABLE = 1 << 30,
    OPTION_RANGES = 1LL << 32,
    OPTION_METRIC = 1LL << 33,
    OPTION_LABEL = 1LL << 34,
    OPTION_QUERY = 1LL << 35,
    OPTION_K = 1LL << 36,
    OPTION_MIN_SCORE = 1LL << 37,
    OPTION_NEWER = 1LL << 38,
    OPTION_MERGE = 1LL << 39,
    OPTION_KEY_SUMMARIES = 1LL << 40,
    OPTION_QUERIES = 1LL << 41,
    OPTION_TOKEN_FILE = 1LL << 42,
    OPTION_ALL_TENANTS = 1LL << 43,
    OPTION_TENANT = 1LL << 44,
    OPTION_TLS_CA = 1LL << 45,
    OPTION_TLS_CERTIFICATE = 1LL << 46,
    OPTION_TLS_KEY = 1LL << 47,
    OPTION_TLS_NAME = 1LL << 48,
    OPTION_CONFIG = 1LL << 49,
    OPTION_ALL = 1LL << 50,
    OPTION_LIST = 1LL << 51,
    OPTION_SESSION = 1LL << 52,
    OPTIONS_TLS = OPTION_TLS_CA | OPTION_TLS_CERTIFICATE | OPTION_TLS_KEY | OPTION_TLS_NAME,
    OPTIONS_DAEMON = OPTION_SOCKET | OPTION_TOKEN_FILE | OPTIONS_TLS, /* of what talks to it */
    OPTIONS_POLICY = OPTION_FLOOR | OPTION_NEWEST | OPTION_IDLE_STEP | OPTION_TTL,
};

/* How sessions are listed. */
enum sort_order { SORT_MADE, SORT_USED, SORT_SIZE, SORT_TOKENS, SORT_NAME, SORT_ORDERS };

/* A:B as written; end 0: left open. */
struct range {
    uint64_t first, end;
};

struct options {
    uint64_t given; /* of enum option_flag */
    const char *socket, *token_file, *tls_ca, *tls_certificate, *tls_key, *tls_name;
    const char *tenant, *model, *config, *session;
    int level;
    double min_snr_db;
    struct kvq_policy_options policy;
    struct kvq_rope rope;
    enum kvq_dtype dtype;
    struct range tokens, layers;
    uint64_t first_tokens;
    uint64_t for_ms, idle_ms, older_ms;
    const char *prefix, *ids;
    const char *ranges, *query, *queries, *label;
    enum kvq_metric metric;
    uint64_t k, newer_ms;
    double min_score;
    enum sort_order sort;
    uint64_t seed, seconds, memory_bytes;
    char **arguments; /* as many as there are */
    int argument_count;
};

/* Words in capitals say what stands there: SESSION, FILE, PATH and LEVEL are completed, and so are
 * words with bars between them. */
struct command {
    const char *name;      /* one word or two */
    const char *arguments; /* as usage shows them; "" if it takes none */
    int argument_count, optional_arguments;
    uint64_t options; /* of enum option_flag */
    const char *summary;
    const char *help; /* paragraphs with an empty line between; wrapped where they are shown */
    enum exit_status (*run)(const struct options *options);
};

extern const struct command import_command, export_command, dump_command, restore_command,
    info_command, sessions_command, status_command, top_command, fork_command, truncate_command,
    age_command, match_command, policy_command, pin_command, flush_command, index_command,
    unindex_command, recall_command, attach_put_command, attach_get_command, attach_list_command,
    attach_rm_command, rm_command, ping_command, control_command, token_command,
    bench_synthetic_command, bench_socket_command, profile_command, plan_command, doctor_command,
    llama_save_command, llama_restore_command, llama_list_command;

/* All of them, in the order in which they are shown. */
extern const struct command *const commands[];
extern const int command_count;

struct option_row {
    enum option_flag flag;
    const char *name, *value; /* value NULL: takes none */
    const char *help;
    bool (*parse)(const char *text, struct options *options); /* NULL: nothing to keep */
};

enum { OPTION_ROWS = 52 };
extern const struct option_row option_rows[OPTION_ROWS];

/* EXIT_DONE: options are filled; or *answered says that --help was all that was asked. */
enum exit_status parse_options(const struct command *command, int argc, char **argv,
                               struct options *options, bool *answered);

/* A line on stderr, "kvq: " before it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Complains about how the command was written; detail may be "". */
enum exit_status usage_error(const struct command *command, const char *what, const char *detail);

/* kvq_connect() as the options say; *client as there. */
int open_client(const struct options *options, int64_t deadline_ms, struct kvq_client **client);

/* Connects or complains. *client is NULL or to be closed in either case. */
enum exit_status connect_client(const struct options *options, struct kvq_client **client);

/* The same for calls that take as long as there is work; Ctrl-C ends them. */
enum exit_status connect_patient_client(const struct options *options, struct kvq_client **client);

/* Says why a call failed and what to do: EXIT_MISS for a miss, else EXIT_FAILED. */
enum exit_status report_failure(const struct kvq_client *client, int error);

/* The same of a call that names a session, which a miss then says. */
enum exit_status report_session_failure(const struct kvq_client *client, int error,
                                        const char *session);

/* More tokens were asked for than the session has. */
enum exit_status report_too_few_tokens(const struct kvq_session_state *state);

/* The client's at the end of its block. */
void close_client(struct kvq_client **client);
#define CLIENT_CLEANUP __attribute__((cleanup(close_client)))

#endif
