/* libkvq: store a model's K and V in kvquantd and have them back.
 *
 * A client is a connection, or a few. Calls block until done, refused or past their deadline:
 *
 *     kvq_connect -> kvq_open -> kvq_append ...                     one process writes,
 *     kvq_connect -> kvq_find -> kvq_fetch  ...                     another reads.
 *
 * A program with a loop of its own opens a client with non_blocking instead: a call that would wait
 * returns KVQ_AGAIN and goes on in kvq_step(), until that returns the call's result:
 *
 *     error = kvq_fetch(client, &state, &options, &result);
 *     while (error == KVQ_AGAIN) {
 *         ... poll kvq_client_fd() for kvq_client_events(), at most kvq_client_timeout_ms() ...
 *         error = kvq_step(client);
 *     }
 *
 * One call at a time: others fail with KVQ_ARGUMENT meanwhile, but for kvq_cancel(), kvq_close()
 * and those that only tell something of the client. client/c/examples/event_loop.c serves two
 * clients so.
 *
 * Threads: a client is used by one thread at a time (a lock of the caller's is enough); several
 * clients are independent of each other. The library starts no thread, installs no signal handler,
 * never raises SIGPIPE and keeps no global state, but for what OpenSSL has of its own.
 *
 * Errors: every call that can fail returns 0 (KVQ_OK) or a number of enum kvq_error.
 * kvq_client_message() has the sentence that belongs to the last failure of a client. After
 * KVQ_CONNECTION_LOST, KVQ_DEADLINE, KVQ_DAEMON_PROTOCOL and the daemon's KVQ_PROTOCOL,
 * KVQ_VERSION and KVQ_UNAUTHENTICATED the connection is gone (kvq_client_connected() tells). After
 * all others it serves on.
 *
 * Lost connections: the next call connects anew by itself, and a call that finds its connection
 * lost does so once and repeats itself where that can do no harm, all within its deadline:
 *   - whatever the daemon cannot have got whole; an append: whatever breaks before its commit, over
 *     several connections before the first of theirs;
 *   - kvq_ping, kvq_find, kvq_info, kvq_list, kvq_stats, kvq_fetch, kvq_match, kvq_block_get,
 *     kvq_recall, kvq_recall_keys, kvq_blocks, kvq_block_control but for a deletion,
 *     kvq_attachment_get, kvq_attachment_list,
 *     kvq_age, kvq_policy, kvq_pin, kvq_control, and kvq_delete_many with dry_run: they change
 *     nothing, or twice what they change once;
 *   - kvq_open, but for KVQ_OPEN_NEW: the second finds what the first may have made. `created` may
 *     then be false of a session that this call has made.
 * Anything else is KVQ_CONNECTION_LOST, and may have been done or not: kvq_find() tells whether a
 * session was deleted, forked or made, or how long it is after a truncate; kvq_delete_many with
 * dry_run whether any are left. An append is sent again as it was, with `first` as a number: it is
 * accepted, or KVQ_WRONG_FIRST says that it was there already. An append in parts is lost between
 * begin and commit, which one of its calls tells; begin anew. Where nobody listens any more, that
 * is KVQ_CONNECTION_LOST too.
 *
 * Memory: structures are the caller's; what the library lends out is said at each call. Pointers
 * must not be NULL unless this page says that they may be. Strings end with a zero byte and are
 * UTF-8. Options, and the strings and geometry that they and other arguments point to, are read
 * before a call returns for the first time, be it with KVQ_AGAIN. What stays in place until the
 * call has its result is where that goes (state, forked, info, list, result, ...) and K and V: the
 * memory of struct kvq_source and kvq_target with the arrays `layers`, the values of
 * kvq_append_part(), token ids, an attachment's bytes or a dump's, and `context`. Once a call has
 * returned anything but KVQ_AGAIN, nothing of these is touched.
 *
 * Structures of options begin with their size, so that programs built against an older header keep
 * working: `struct kvq_append_options options = {.size = sizeof options, .k = ...}`. Fields left 0
 * have the meaning given here. All other structures keep their size.
 *
 * Units: counts of tokens, layers and heads; bytes; milliseconds.
 */
#ifndef KVQ_H
#define KVQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum kvq_error {
    KVQ_OK = 0,

    /* The daemon's answers. */
    KVQ_PROTOCOL = 1,           /* the daemon did not understand this client; connection gone */
    KVQ_VERSION = 2,            /* no protocol version in common; connection gone */
    KVQ_TOO_LARGE = 3,          /* above the daemon's limits, or an append that never fits */
    KVQ_UNKNOWN_OPERATION = 4,  /* the daemon is older than this call */
    KVQ_BAD_CONTROL = 5,        /* a message did not decode */
    KVQ_INVALID = 6,            /* a field has a value that cannot be; the message names it */
    KVQ_MODEL_MISMATCH = 7,     /* the session belongs to another model or geometry */
    KVQ_WRONG_FIRST = 8,        /* an append must start at the session's length */
    KVQ_TAIL_MOVED = 9,         /* the session's tail has changed since */
    KVQ_BUSY = 10,              /* somebody else is appending to the session */
    KVQ_FULL = 11,              /* the memory limit is reached */
    KVQ_MISS = 12,              /* no such session, range or attachment, or it went away */
    KVQ_VERSION_CHANGED = 13,   /* the session has changed since */
    KVQ_EXISTS = 14,            /* a session of this name exists */
    KVQ_CANCELLED = 15,         /* by a progress function or kvq_cancel() */
    KVQ_TOO_MANY_REQUESTS = 16, /* more requests in flight than the daemon allows */
    KVQ_SHUTTING_DOWN = 17,
    KVQ_UNSUPPORTED = 18, /* a geometry or size that this daemon cannot hold or a dtype not given */
    KVQ_INCOMPLETE = 19,  /* kvq_append_commit before every part was sent */
    KVQ_INTERNAL = 20,    /* the daemon failed */
    KVQ_READ_ONLY = 21,   /* the daemon is drained or read-only: try another, or later */
    KVQ_DISK = 22,        /* the disk is full or failed: it is done, but in memory only */
    KVQ_UNAUTHENTICATED = 23,   /* the daemon does not know whose client this is; connection gone */
    KVQ_PERMISSION_DENIED = 24, /* another role is needed: the message names it */
    KVQ_QUOTA = 25, /* a quota of the client's tenant is used up: the message says which */

    /* Found on this side. */
    KVQ_NO_MEMORY = 100,
    KVQ_ARGUMENT = 101,        /* an argument that cannot be; nothing was sent */
    KVQ_CANNOT_CONNECT = 102,  /* no daemon at the socket, or not allowed in */
    KVQ_CONNECTION_LOST = 103, /* the connection broke, now or at an earlier call */
    KVQ_DEADLINE = 104,        /* the call's time was up; the connection is closed */
    KVQ_DAEMON_PROTOCOL = 105, /* the daemon broke the protocol; the connection is closed */
    KVQ_AGAIN = 106,           /* not a failure: the call goes on with kvq_step() */
};

/* A short stable name ("wrong_first"), "unknown" for a number that is none. Static. */
const char *kvq_error_name(int error);
/* A sentence for a person, static. kvq_client_message() is usually more precise. */
const char *kvq_error_sentence(int error);
/* Whether the same call may succeed later, after KVQ_CANNOT_CONNECT on a new client. */
bool kvq_error_retryable(int error);

/* The library's version, "0.1.0". Static. */
const char *kvq_version(void);

struct kvq_client;

struct kvq_connect_options {
    size_t size;
    /* The path of the daemon's socket: anything with a '/', at most 107 bytes. Else host:port, or
     * [::1]:port. NULL: $KVQ_SOCKET, else $XDG_RUNTIME_DIR/kvquantd.sock if it is there, else
     * /run/kvquantd/kvquantd.sock. A host's name is looked up by kvq_connect() only, and that may
     * block even a non-blocking client; a number does not. */
    const char *socket;
    int64_t deadline_ms; /* of this call and of those without one; 0: 60,000; negative: none */
    const char *name;    /* for the daemon's log, at most 255 bytes; NULL: "libkvq" */
    bool non_blocking;   /* calls that would wait return KVQ_AGAIN: see kvq_step() */
    bool no_reconnect;   /* once the connection is gone, every call is KVQ_CONNECTION_LOST */
    /* How many connections one large fetch or kvq_append() may use; 0 means 1; at most 8. Further
     * ones are opened when they are worth it, and done without where they cannot be had. An append
     * in parts uses one. */
    uint32_t connections;
    /* A secret, as `kvq token` prints it: 64 hexadecimal digits. token_file is a file with one,
     * which only its owner may read; a name without a '/' is looked for in $CREDENTIALS_DIRECTORY
     * first. Both NULL: the file that $KVQ_TOKEN_FILE names, else none, and the daemon goes by the
     * user that this process is. */
    const char *token, *token_file;
    /* Of host:port, never of a path: TLS 1.3, where tls_ca is set. Files in PEM, which are read
     * anew for each connection; where that fails, what was read before serves. A name without a '/'
     * is looked for in $CREDENTIALS_DIRECTORY first. NULL: $KVQ_TLS_CA, $KVQ_TLS_CERTIFICATE,
     * $KVQ_TLS_KEY and $KVQ_TLS_NAME, else none. tls_ca: the authorities of which the daemon's
     * certificate has to be. tls_certificate and tls_key: this client's, whose key only its owner
     * may read, without a password. tls_name: what the daemon's certificate must name among its
     * subjectAltNames, else the host. */
    const char *tls_ca, *tls_certificate, *tls_key, *tls_name;
};

/* What a client may do, by its credential; each may do what those before it may. What needs another
 * is KVQ_PERMISSION_DENIED. */
enum kvq_role {
    KVQ_ROLE_UNKNOWN = 0, /* not connected yet, or the daemon is older than roles */
    KVQ_ROLE_READER = 1,  /* fetch, ask and recall what its tenant has */
    KVQ_ROLE_WORKER = 2,  /* and change it */
    KVQ_ROLE_ADMIN = 3,   /* and what concerns the daemon, or other tenants */
};

/* options may be NULL. *opened is set also when this fails, so that kvq_client_message() can tell
 * why, and must be closed then too; it is NULL only after KVQ_NO_MEMORY. Of a
 * non-blocking client it is set at once. */
int kvq_connect(const struct kvq_connect_options *options, struct kvq_client **opened);

/* Frees the client and all it has lent out. What was not committed is dropped. NULL: does nothing.
 */
void kvq_close(struct kvq_client *client);

/* The sentence of the client's last failure, with the daemon's own words where it sent some; ""
 * before the first. The client's, until its next call. */
const char *kvq_client_message(const struct kvq_client *client);

/* The address connected to, or tried, as it was given. The client's, until it is closed. */
const char *kvq_client_socket(const struct kvq_client *client);

/* False until there is a connection, and once it is gone until the next call. */
bool kvq_client_connected(const struct kvq_client *client);

/* Whose client this is, as the daemon has it of its credential: names of sessions, models and
 * blocks are this tenant's. "" until it is connected. The client's, until its next call. */
const char *kvq_client_tenant(const struct kvq_client *client);
enum kvq_role kvq_client_role(const struct kvq_client *client);

/* Of calls from now on, as in kvq_connect_options. */
void kvq_set_deadline(struct kvq_client *client, int64_t deadline_ms);

int kvq_ping(struct kvq_client *client);

/* ---- For programs with a loop of their own: clients opened with non_blocking ---- */

/* Goes on with the call under way: KVQ_AGAIN, or the call's result. To be called when
 * kvq_client_fd() is ready or kvq_client_timeout_ms() is over; a step without need does no harm.
 * KVQ_ARGUMENT: no call is under way. */
int kvq_step(struct kvq_client *client);

/* Ends the call under way at once and returns KVQ_CANCELLED; 0 if there was none. Its pointers are
 * free. An append that was not committed is dropped; whether another call was done is not known, as
 * after a lost connection. The connection stays usable: what still comes of the call is read over
 * later. One that was just being made is closed, and made anew by the next call. */
int kvq_cancel(struct kvq_client *client);

/* A descriptor to poll while a call is under way. It is the client's, stays the same until
 * kvq_close() and stands for all of its connections. -1 of a blocking client. */
int kvq_client_fd(const struct kvq_client *client);

/* What to poll it for now: POLLIN, whatever the call waits for; 0 if none is under way or it waits
 * for time only. A loop that keeps descriptors registered leaves it out meanwhile. */
short kvq_client_events(const struct kvq_client *client);

/* Milliseconds after which kvq_step() is to be called even if the descriptor is not ready; 0: now;
 * -1: there is no such time. */
int kvq_client_timeout_ms(const struct kvq_client *client);

/* ---- Sessions ---- */

/* Floats of 8 bits are OCP's: e4m3fn, without infinities, and e5m2. What the integers of KVQ_INT8
 * count in is the caller's to keep. */
enum kvq_dtype {
    KVQ_DTYPE_UNSET = 0,
    KVQ_F16 = 1,
    KVQ_BF16 = 2,
    KVQ_F32 = 3,
    KVQ_FP8_E4M3 = 4,
    KVQ_FP8_E5M2 = 5,
    KVQ_INT8 = 6,
};

/* Of a value; 0 for a number that is no dtype. */
size_t kvq_dtype_bytes(enum kvq_dtype dtype);

enum kvq_pairing { KVQ_PAIRING_NONE = 0, KVQ_PAIRING_INTERLEAVED = 1, KVQ_PAIRING_HALF = 2 };

struct kvq_rope {
    enum kvq_pairing pairing; /* KVQ_PAIRING_NONE: no rotary embedding, or none that is known */
    double theta;
    uint32_t dims;
    double scaling; /* 0 means 1 */
};

struct kvq_geometry {
    uint32_t layers, heads; /* KV heads */
    uint32_t head_dim_k;
    uint32_t head_dim_v;  /* 0: the model keeps no V */
    enum kvq_dtype dtype; /* of the values appended */
    struct kvq_rope rope;
};

enum { KVQ_SESSION_BYTES_MAX = 255, KVQ_MODEL_BYTES_MAX = 255 };
enum { KVQ_LEVEL_EXACT = -2, KVQ_LEVEL_FAST8 = -1, KVQ_LEVEL_FINEST = 0, KVQ_LEVEL_COARSEST = 5 };
enum { KVQ_SNR_DB_MAX = 200 };

/* What a client has to know of a session to append to it and fetch from it. A plain value: copy it,
 * keep it, use it with any client. Calls that learn something new bring it up to date. */
struct kvq_session_state {
    char session[KVQ_SESSION_BYTES_MAX + 1];
    char model[KVQ_MODEL_BYTES_MAX + 1];
    struct kvq_geometry geometry;
    int level;
    double min_snr_db; /* that every page has at least; 0: none was asked */
    uint64_t version;  /* rises with every change, never comes again */
    uint64_t tokens;
    uint32_t tail_tokens;       /* the newest tokens, which fill no page */
    uint32_t page_tokens;       /* tokens in a full page */
    uint64_t append_tokens_max; /* in one append; a tail may leave room for a few more */
    bool created;               /* by this call of kvq_open */
};

/* How a session is kept. "Without use" is without being opened, appended to, fetched, forked or
 * truncated, and without an attachment being put, got or deleted. */
struct kvq_policy {
    uint64_t newest_tokens; /* so many of the newest are kept at newest_level; 0: none */
    int newest_level;       /* no coarser than the session's level */
    int floor; /* the coarsest that time and pressure lead to; no finer than the level */
    uint64_t idle_step_ms; /* one level coarser for each such time without use; 0: never */
    uint64_t ttl_ms;       /* deleted after such a time without use, unless pinned; 0: never */
};

enum kvq_policy_field {
    KVQ_POLICY_NEWEST_TOKENS = 1,
    KVQ_POLICY_NEWEST_LEVEL = 2,
    KVQ_POLICY_FLOOR = 4,
    KVQ_POLICY_IDLE_STEP = 8,
    KVQ_POLICY_TTL = 16,
};

struct kvq_policy_options {
    size_t size;
    unsigned given; /* of enum kvq_policy_field: what of the policy is read */
    struct kvq_policy policy;
};

/* Whether a session takes pages of other sessions of its model for its own, and offers them its
 * own, where the ids of all tokens up to there, and their salts, are the same. Nothing is taken
 * that is coarser than the session's own would be. */
enum kvq_sharing {
    KVQ_SHARE_NOTHING = 0,
    /* The same ids are enough: K and V may be those of another worker, different in the last bits.
     * But what is to be exact is shared as with KVQ_SHARE_BYTES. */
    KVQ_SHARE_IDS = 1,
    KVQ_SHARE_BYTES = 2, /* only what is coded to the same bytes */
};

/* When what changes a session returns - append, fork, truncate, delete, policy, pin, age, an
 * attachment put or deleted -: when it is done in memory, or when it would outlast a loss of power,
 * too. */
enum kvq_durability {
    KVQ_DURABILITY_UNSET = 0, /* as it is; in memory for a session that is created */
    KVQ_IN_MEMORY = 1,
    KVQ_ON_DISK = 2,
};

enum kvq_open_mode { KVQ_OPEN_OR_CREATE = 0, KVQ_OPEN_EXISTING = 1, KVQ_OPEN_NEW = 2 };

struct kvq_open_options {
    size_t size;
    const char *session; /* 1 to 255 bytes without control characters */
    const char *model;   /* the fingerprint: 1 to 255 bytes over weights, tokenizer and adapter */
    const struct kvq_geometry *geometry; /* may be NULL with KVQ_OPEN_EXISTING */
    bool has_level;
    int level; /* of a session that is created; read only if has_level, else the daemon's default */
    enum kvq_open_mode mode;
    int64_t deadline_ms; /* 0: the client's; negative: none */
    /* Of a session that is created; 0: none, at most KVQ_SNR_DB_MAX. Every page of it gets the
     * coarsest level that has so many decibels, 10 log10(energy / error) at the session's dtype (of
     * 8-bit dtypes as KVQ_F32), or is exact; the session's level, 5 without has_level, is the
     * coarsest that is taken. */
    double min_snr_db;
    /* Of a session that is created; NULL, and what is not given, is the daemon's default. But the
     * floor of a session with has_level is then its level: it never gets coarser by itself. */
    const struct kvq_policy_options *policy;
    enum kvq_sharing sharing; /* of a session that is created; its tokens then come with ids */
    enum kvq_durability durability; /* from now on */
    /* Of a session that is created: summaries of its keys are kept, up to 3 % of what K and V take
     * at 16 bits, by which kvq_recall_keys() finds tokens. */
    bool key_summaries;
};

/* Opens a session to write to, by default creating it. state is filled only on success.
 * KVQ_MODEL_MISMATCH: it belongs to another model or geometry. KVQ_EXISTS: it was there, with
 * KVQ_OPEN_NEW. KVQ_MISS: it was not, with KVQ_OPEN_EXISTING. KVQ_INVALID: a level or policy
 * that cannot be. KVQ_UNSUPPORTED: also KVQ_ON_DISK of a daemon without a disk. KVQ_FULL. */
int kvq_open(struct kvq_client *client, const struct kvq_open_options *options,
             struct kvq_session_state *state);

/* Finds an existing session of any model, to fetch from it. state is filled only on success.
 * KVQ_MISS: there is none. */
int kvq_find(struct kvq_client *client, const char *session, struct kvq_session_state *state);

/* Deletes a session: once this returns 0, nobody is ever given any of it. freed_bytes may be NULL.
 * KVQ_MISS: there was none. */
int kvq_delete(struct kvq_client *client, const char *session, uint64_t *freed_bytes);

struct kvq_delete_many_options {
    size_t size;
    /* Sessions of which all that is given holds are deleted; something must be given. */
    const char *prefix;  /* of the name; NULL: any */
    const char *model;   /* NULL: any */
    uint64_t idle_ms;    /* not used for so long, at least; 0: any */
    uint64_t age_ms;     /* made so long ago, at least; 0: any */
    bool pinned_too;     /* else pinned sessions stay */
    bool dry_run;        /* count only */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

struct kvq_deleted {
    uint64_t sessions, freed_bytes;
};

/* deleted may be NULL. 0 also if there was nothing to delete. */
int kvq_delete_many(struct kvq_client *client, const struct kvq_delete_many_options *options,
                    struct kvq_deleted *deleted);

struct kvq_fork_options {
    size_t size;
    const char *target;  /* the new session's name */
    uint64_t tokens;     /* the first so many; 0: all that the daemon has */
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

/* Makes a new session of a session's first tokens, without copying any. target's model, geometry,
 * level, decibels, policy and sharing are the session's. forked is filled only on success and may
 * be NULL. KVQ_EXISTS: there is a session of that name. KVQ_MISS: no such session, or it has fewer
 * tokens.
 */
int kvq_fork(struct kvq_client *client, const struct kvq_session_state *state,
             const struct kvq_fork_options *options, struct kvq_session_state *forked);

/* Keeps a session's first tokens and drops the rest; state moves on with it. KVQ_MISS: no such
 * session, or it has fewer tokens. KVQ_BUSY: somebody is appending to it. */
int kvq_truncate(struct kvq_client *client, struct kvq_session_state *state, uint64_t tokens);

struct kvq_aged {
    int level;
    uint64_t stored_bytes_before, stored_bytes;
};

/* Brings a session to a coarser level: what is stored, and what is appended from now on, the newest
 * tokens among it; its floor moves along. With
 * settle it returns when all is coded at it. aged may be NULL. KVQ_INVALID: the level is finer than
 * the session's. KVQ_MISS: no such session. */
int kvq_age(struct kvq_client *client, const char *session, int level, bool settle,
            struct kvq_aged *aged);

/* The same of another tenant's session, by an admin. KVQ_PERMISSION_DENIED: it is none. */
int kvq_age_of(struct kvq_client *client, const char *tenant, const char *session, int level,
               bool settle, struct kvq_aged *aged);

/* Changes what is given of a session's policy (options NULL: nothing) and tells what it then is;
 * policy may be NULL. What is coarser already stays so. KVQ_INVALID: newest_level would be coarser,
 * or floor finer, than the session's level. KVQ_MISS: no such session. */
int kvq_policy(struct kvq_client *client, const char *session,
               const struct kvq_policy_options *options, struct kvq_policy *policy);

/* Keeps a session out of bulk deletion and of whatever the daemon does to make room, for lease_ms
 * from now; 0 ends that. KVQ_MISS: no such session. */
int kvq_pin(struct kvq_client *client, const char *session, uint64_t lease_ms);

/* Returns when a session, or with NULL all of them and all blocks, would outlast a loss of power as
 * it was when the call came; sessions, which may be NULL, is how many. KVQ_MISS: no such session.
 * KVQ_DISK: the disk is full or failed. KVQ_UNSUPPORTED: the daemon has none. */
int kvq_flush(struct kvq_client *client, const char *session, uint64_t *sessions);

/* ---- Append ---- */

/* Where K or V stand in the caller's memory. Value (l, t, h, d) is at
 *     (layers ? layers[l] : block + l * layer_stride) + t * token_stride + h * head_stride
 * plus d values; strides in bytes, 0 for those of packed [layers, tokens, heads, head_dim]; any
 * alignment. [layers, heads, tokens, head_dim] is sent as it stands too; whatever else has rows of
 * head_dim values is gathered on the way. t and l count from the call's first token and layer. */
struct kvq_source {
    const void *const *layers; /* one pointer a layer, or NULL for block */
    const void *block;
    ptrdiff_t layer_stride, token_stride, head_stride;
};

/* The same to write to. Both layers and block NULL: this part is not wanted. */
struct kvq_target {
    void *const *layers;
    void *block;
    ptrdiff_t layer_stride, token_stride, head_stride;
};

enum { KVQ_SALT_BYTES_MAX = 64, KVQ_SALTS_MAX = 1024 };

/* What stands behind the ids of some tokens that do not say it themselves: an image's or an audio's
 * hash, an adapter's name. Tokens are the same where ids and salts are. */
struct kvq_salt {
    uint64_t first, tokens; /* first counts from the session's start */
    const void *bytes;
    size_t byte_count; /* at most KVQ_SALT_BYTES_MAX */
};

#define KVQ_AT_END UINT64_MAX

struct kvq_append_options {
    size_t size;
    uint64_t first;         /* must be the session's length; KVQ_AT_END: what state says it is */
    uint64_t tokens;        /* at least 1, at most state->append_tokens_max */
    struct kvq_source k, v; /* v is not read without V in the geometry */
    /* Return once everything, the tail too, is coded at the session's level; else that is done
     * in the daemon's own time. */
    bool settle;
    uint32_t wait_ms;    /* for memory at the limit, before KVQ_FULL; 0: the daemon's default, or
                          * half of the call's deadline where that is shorter */
    int64_t deadline_ms; /* of the whole call; 0: the client's; negative: none */
    /* May be NULL. Called between pages with the bytes of values sent so far, over all connections,
     * from 0 again where the append is repeated; false ends it with KVQ_CANCELLED, and nothing of
     * it is kept. Must not use the client. */
    bool (*progress)(void *context, uint64_t bytes_sent);
    void *context;
    /* The ids of all tokens, by which kvq_match() finds the session and others may share it; NULL:
     * none. A session has ids up to the first append without. They stay in place as values do. */
    const uint32_t *token_ids;
    const struct kvq_salt *salts; /* ascending, within these tokens; read only with token_ids */
    size_t salt_count;            /* at most KVQ_SALTS_MAX */
};

/* Appends tokens to a session, all or nothing; state's tokens, tail and version move on with it.
 * The values are read during the call only, and sent from where they stand. Repeats by itself what
 * fails with KVQ_TAIL_MOVED (always safe), up to twice. Over several connections each sends some of
 * the pages, so that more than one of the daemon's processors codes them; what one fails with ends
 * it for all. Where a further one breaks before any commit, or comes too late for the others, all
 * is sent again over one.
 * KVQ_WRONG_FIRST: state->tokens now says what the length is. KVQ_BUSY, KVQ_FULL: try again later.
 * KVQ_TOO_LARGE: more than ever fits; send fewer tokens at a time.
 * KVQ_MISS: the session is gone. */
int kvq_append(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_append_options *options);

/* The same in parts, for writers that have one layer at a time. Between begin and commit or abort
 * the client takes no other call but part (and kvq_close); others fail with KVQ_ARGUMENT. k, v,
 * progress and context of the options are not read; token ids go with begin; the deadline is of
 * each call by itself. state must stay where it is until the append has ended. */
int kvq_append_begin(struct kvq_client *client, struct kvq_session_state *state,
                     const struct kvq_append_options *options);

enum kvq_part { KVQ_K = 0, KVQ_V = 1 };

/* Sends all tokens of one layer's K or V, each exactly once, in any order. values are those of the
 * append's first token in this layer; strides as in struct kvq_source. Any failure but KVQ_ARGUMENT
 * ends the append: nothing of it is kept, and neither commit nor abort follows. */
int kvq_append_part(struct kvq_client *client, uint32_t layer, enum kvq_part part,
                    const void *values, ptrdiff_t token_stride, ptrdiff_t head_stride);

/* Makes the append visible and brings the state that was given to begin up to date. Ends the
 * append, whatever it returns. KVQ_TAIL_MOVED: begin anew, with the state as it is now. */
int kvq_append_commit(struct kvq_client *client);

/* Drops the append. 0 also if none was under way. */
int kvq_append_abort(struct kvq_client *client);

/* ---- Match ---- */

enum { KVQ_MATCH_TOKENS_MAX = 1048576 };

struct kvq_match_options {
    size_t size;
    const char *model;
    const struct kvq_geometry *geometry; /* NULL: any of the model's */
    const uint32_t *token_ids;           /* stay in place until the call has its result */
    uint64_t tokens;                     /* at most KVQ_MATCH_TOKENS_MAX */
    const struct kvq_salt *salts;        /* ascending, within these tokens */
    size_t salt_count;                   /* at most KVQ_SALTS_MAX */
    int64_t deadline_ms;                 /* 0: the client's; negative: none */
};

struct kvq_match {
    char session[KVQ_SESSION_BYTES_MAX + 1];
    uint64_t tokens;         /* that agree, from the first on */
    uint64_t version;        /* the session's: for kvq_fork_options.if_version */
    uint64_t session_tokens; /* how long it is */
    int level;
};

/* Finds the session that begins with the most of these tokens: what kvq_fork() then makes of its
 * first match->tokens costs neither memory nor time. Of several it may be any. match is filled only
 * on success. KVQ_MISS: none begins with the first of them. */
int kvq_match(struct kvq_client *client, const struct kvq_match_options *options,
              struct kvq_match *match);

/* ---- Fetch ---- */

struct kvq_fetch_options {
    size_t size;
    uint64_t first, end;             /* tokens first .. end - 1; end 0: state->tokens */
    uint32_t first_layer, end_layer; /* likewise; end_layer 0: all */
    enum kvq_dtype dtype;            /* of the values to be written; unset: the session's; else that
                                      * one, or KVQ_F16, KVQ_BF16, KVQ_F32 */
    uint64_t if_version;             /* KVQ_VERSION_CHANGED unless it still is; 0: not checked */
    struct kvq_target k, v;          /* at least one; room for (end - first) tokens of each layer */
    int64_t deadline_ms;             /* of the whole call; 0: the client's; negative: none */
    /* May be NULL. Called between pages with the bytes of values received so far, from 0
     * again where the fetch is repeated; false ends it with KVQ_CANCELLED. Must not use the client.
     */
    bool (*progress)(void *context, uint64_t bytes_received);
    void *context;
    /* A miss unless all is there within so many ms: KVQ_MISS is returned then at the latest, and
     * the connection serves on. 0: no such limit. */
    uint32_t within_ms;
};

enum { KVQ_LEVELS = 8 };

struct kvq_level_tokens {
    int level;
    uint64_t tokens;
};

/* Squared differences to what was appended, and squared values, summed: error / energy is the
 * relative error, of what is fetched as KVQ_F32. error is 0 for what is exact. */
struct kvq_loss {
    double error, energy;
    bool estimated; /* aged since it was measured */
};

struct kvq_fetch_result {
    uint64_t version, tokens, bytes;
    struct kvq_level_tokens levels[KVQ_LEVELS]; /* of the tokens fetched */
    uint32_t level_count;
    struct kvq_loss k, v; /* of the pages that the range touches */
};

/* Fetches a range of tokens and layers into the caller's memory, which is undefined until this
 * returns 0. With strides that are packed, in either order, values are received in place. result
 * may be NULL. Over several connections each fetches a range of whole pages; if
 * the ranges are not of one version all is fetched again over one. After a truncate within a page
 * the pages where two ranges meet may count twice in the loss. An empty range succeeds without
 * asking the daemon. KVQ_MISS: the session or a part of the range is not there. KVQ_MODEL_MISMATCH:
 * the session is now another model's than state says. KVQ_VERSION_CHANGED. KVQ_UNSUPPORTED: the
 * session's values are not given in this dtype. */
int kvq_fetch(struct kvq_client *client, const struct kvq_session_state *state,
              const struct kvq_fetch_options *options, struct kvq_fetch_result *result);

/* ---- Attachments: small named blobs with a session ---- */

enum {
    KVQ_ATTACHMENT_NAME_BYTES_MAX = 255,
    KVQ_ATTACHMENT_BYTES_MAX = 16777216,
    KVQ_ATTACHMENTS_MAX = 64, /* of a session */
};

/* A sampler's state, token ids, an engine's own state: whatever is to be there when the session is
 * resumed. Attachments are kept exactly, compressed where that helps, and as long as the session
 * has a token; one that is empty from the start keeps them, too. A fork has those of its source,
 * without a copy; a fork of fewer tokens those that were put when there were no more. A session
 * that is truncated to nothing loses them. */
struct kvq_attachment_put_options {
    size_t size;
    const char *name;    /* 1 to KVQ_ATTACHMENT_NAME_BYTES_MAX bytes without control characters */
    const void *bytes;   /* stay in place until the call has its result */
    size_t byte_count;   /* at most KVQ_ATTACHMENT_BYTES_MAX; may be 0 */
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    uint32_t wait_ms;    /* for memory at the limit, before KVQ_FULL; 0: the daemon's default, or
                          * half of the call's deadline where that is shorter */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

struct kvq_attachment_result {
    uint64_t version; /* of the session, which both calls raise */
    uint64_t bytes;   /* that it takes, or that became free */
};

/* Puts an attachment, whole or not at all, in the place of one of the same name. result may be
 * NULL. KVQ_MISS: no such session. KVQ_UNSUPPORTED: it has KVQ_ATTACHMENTS_MAX others. KVQ_FULL. */
int kvq_attachment_put(struct kvq_client *client, const char *session,
                       const struct kvq_attachment_put_options *options,
                       struct kvq_attachment_result *result);

struct kvq_attachment_options {
    size_t size;
    const char *name;
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

struct kvq_attachment {
    const void *bytes; /* the client's, until its next call */
    size_t byte_count;
    uint64_t version; /* of the session */
    uint64_t tokens;  /* that the session had when it was put */
};

/* Gets an attachment as it was put. KVQ_MISS: no such session or attachment, or it is damaged. */
int kvq_attachment_get(struct kvq_client *client, const char *session,
                       const struct kvq_attachment_options *options,
                       struct kvq_attachment *attachment);

/* Deletes an attachment: once this returns 0, nobody is ever given any of it but by forks. result
 * may be NULL. KVQ_MISS: no such session or attachment. */
int kvq_attachment_delete(struct kvq_client *client, const char *session,
                          const struct kvq_attachment_options *options,
                          struct kvq_attachment_result *result);

struct kvq_attachment_info {
    const char *name;
    uint64_t bytes;        /* as given */
    uint64_t stored_bytes; /* of memory; what is on disk only takes next to none */
    uint64_t tokens;       /* that the session had when it was put */
};

struct kvq_attachment_list {
    const struct kvq_attachment_info *attachments; /* by name, ascending */
    size_t count;
    uint64_t version; /* of the session */
};

/* Which attachments a session has. They are the client's, until its next call. KVQ_MISS: no such
 * session. */
int kvq_attachment_list(struct kvq_client *client, const char *session,
                        struct kvq_attachment_list *list);

/* ---- Dump and restore ----
 *
 * A dump is a session as the daemon keeps it: its coded pages byte for byte, its tail, token ids,
 * attachments and embeddings. What is restored, by whatever daemon, gives what the session that was
 * dumped gave, bit for bit, and is told of as it was, but for its version, its times and a pin. The
 * bytes guard themselves with checksums; proto/wire/DUMP.md has them. Whoever can read them can
 * turn them back into the prompt. */
struct kvq_dump_options {
    size_t size;
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    const char *tenant;  /* whose the session is, of an admin; NULL: the client's own */
    int64_t deadline_ms; /* 0: the client's; negative: none */
    /* Gets the dump's bytes, in order; false ends the call with KVQ_CANCELLED. */
    bool (*write)(void *context, const void *bytes, size_t count);
    void *context;
};

struct kvq_dump_result {
    uint64_t version, tokens;
    uint64_t bytes; /* of the dump */
};

/* Dumps a session as it is when the call is read, whatever is appended meanwhile. result may be
 * NULL. Without success the bytes that came are of no use. KVQ_MISS: no such session, or it was
 * deleted, truncated or evicted on the way, or lost an attachment or embeddings. KVQ_FULL: what is
 * on disk has no room in memory. */
int kvq_dump(struct kvq_client *client, const char *session, const struct kvq_dump_options *options,
             struct kvq_dump_result *result);

struct kvq_restore_options {
    size_t size;
    const void *bytes; /* one session's dump; they stay in place until the call has its result */
    size_t byte_count;
    bool replace;        /* a session of that name, once all of the new one is there */
    const char *tenant;  /* whose it will be, of an admin; NULL: the client's own */
    uint32_t wait_ms;    /* for memory at the limit, before KVQ_FULL; 0: the daemon's default, or
                          * half of the call's deadline where that is shorter */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

struct kvq_restore_result {
    uint64_t version, tokens;
    uint32_t tail_tokens;
};

/* Makes a session of that name out of a dump, whole or not at all. result may be NULL. KVQ_EXISTS:
 * there is one, and replace is false. KVQ_INVALID: the dump is damaged, and the message says where.
 * KVQ_INCOMPLETE: it ends too soon. KVQ_UNSUPPORTED: it is of a newer version, or such sessions do
 * not fit the daemon's memory limit. KVQ_FULL. */
int kvq_restore(struct kvq_client *client, const char *session,
                const struct kvq_restore_options *options, struct kvq_restore_result *result);

/* ---- Embeddings: finding the tokens that matter ---- */

enum {
    KVQ_DIM_MAX = 4096,
    KVQ_LABEL_BYTES_MAX = 255,
    KVQ_METADATA_BYTES_MAX = 1024,
    KVQ_RECALL_K_MAX = 512,
    KVQ_RECALL_SESSIONS_MAX = 1024,
};

enum kvq_metric {
    KVQ_COSINE,        /* of the angle: vectors of any length but 0 */
    KVQ_INNER_PRODUCT, /* as it is */
};

/* A range of a session's tokens that an embedding stands for. */
struct kvq_entry {
    uint64_t first;
    uint32_t tokens;
    const char *label;     /* at most KVQ_LABEL_BYTES_MAX bytes; NULL or "": none */
    const void *metadata;  /* anything */
    size_t metadata_bytes; /* at most KVQ_METADATA_BYTES_MAX */
};

/* Entries, vectors and what they point to stay in place until the call has its result. */
struct kvq_index_options {
    size_t size;
    uint32_t dim;         /* 1 to KVQ_DIM_MAX */
    enum kvq_dtype dtype; /* KVQ_F32 or KVQ_F16 */
    enum kvq_metric metric;
    const struct kvq_entry *entries;
    size_t count;
    const void *vectors; /* [count, dim] */
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    uint32_t wait_ms;    /* for memory at the limit, before KVQ_FULL; 0: the daemon's default, or
                          * half of the call's deadline where that is shorter */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

struct kvq_index_result {
    uint64_t version; /* of the session, which no entry changes */
    uint64_t changed; /* entries that were replaced, or deleted */
    uint64_t entries; /* that the session has now */
};

/* Lets ranges of a session's tokens be found by their embeddings. An entry with a label takes the
 * place of the session's entry of that label, and goes with the first of its tokens that is
 * truncated or evicted; a fork has those of its tokens, without a copy. They survive what the
 * session survives, and take of the memory limit. More than 16 MiB go in several steps, each whole
 * or not at all: after a failure those of the steps before it are there. result may be NULL.
 * KVQ_INVALID: a vector that is not finite, or zero under KVQ_COSINE; two entries of one label.
 * KVQ_MISS: no such session, or tokens that it has not. KVQ_FULL. */
int kvq_index(struct kvq_client *client, const char *session,
              const struct kvq_index_options *options, struct kvq_index_result *result);

struct kvq_unindex_options {
    size_t size;
    const char *const *labels; /* entries of these go; with none those with a token in the range */
    size_t label_count;
    uint64_t first, end; /* end 0: to the end */
    uint64_t if_version; /* KVQ_VERSION_CHANGED unless the session still is; 0: not checked */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

/* Deletes entries: once this returns 0, no recall finds them but for forks. result may be NULL.
 * KVQ_MISS: no such session. */
int kvq_unindex(struct kvq_client *client, const char *session,
                const struct kvq_unindex_options *options, struct kvq_index_result *result);

/* All that is given holds of each range that is recalled. The query stays in place until the call
 * has its result. */
struct kvq_recall_options {
    size_t size;
    const char *const *sessions; /* of one model, at most KVQ_RECALL_SESSIONS_MAX; */
    size_t session_count;        /* 0: all of `model` */
    const char *model;           /* fingerprint; NULL: that of the sessions */
    const float *query;          /* [dim], whatever the entries' dtype is */
    uint32_t dim;
    enum kvq_metric metric;
    uint32_t k; /* 1 to KVQ_RECALL_K_MAX */
    bool has_min_score;
    double min_score;
    const char *label;               /* NULL: any */
    uint64_t first, end;             /* with a token among these; end 0: to the end */
    uint64_t newer_than_ms;          /* put no longer ago; 0: any */
    bool merge;                      /* ranges of a session that overlap or touch become one */
    bool fetch;                      /* with K and V; what follows is of these */
    enum kvq_dtype dtype;            /* 0: the sessions' own */
    uint32_t first_layer, end_layer; /* end 0: all */
    int64_t deadline_ms;             /* 0: the client's; negative: none */
};

struct kvq_recall_hit {
    const char *session;
    uint64_t version; /* of the session */
    uint64_t first, tokens;
    double score; /* the higher, the nearer */
    const char *label;
    const void *metadata;
    size_t metadata_bytes;
    int level;       /* the coarsest of its tokens' levels */
    uint64_t bytes;  /* its share of what the session takes */
    uint64_t age_ms; /* since it was put */
    bool fetched;    /* its K and V are those of its session; else it changed on the way */
};

/* All of it is the client's, until its next call. */
struct kvq_recalled {
    const struct kvq_recall_hit *hits; /* best first */
    size_t count;
    uint64_t tokens;      /* of all hits, one behind the other */
    const void *k, *v;    /* [layers, tokens, heads, head_dim]; NULL where not fetched */
    enum kvq_dtype dtype; /* of these, as what follows */
    uint32_t layers;
    struct kvq_geometry geometry;
};

/* Finds the ranges whose embeddings are nearest to the query. What is not there any more, or of
 * another model, is never among them. KVQ_INVALID: a query that is not finite, or zero under
 * KVQ_COSINE, or entries that are all of another dim or metric. KVQ_MISS: no such session.
 * KVQ_MODEL_MISMATCH. */
int kvq_recall(struct kvq_client *client, const struct kvq_recall_options *options,
               struct kvq_recalled *recalled);

enum { KVQ_RECALL_BLOCKS_MAX = 65536, KVQ_RECALL_BLOCK_TOKENS = 4 };

/* The queries stay in place until the call returns something other than KVQ_AGAIN. */
struct kvq_recall_keys_options {
    size_t size;
    /* [layers, query_heads, head_dim of K], after RoPE, as they are multiplied with the keys before
     * the division by sqrt(head_dim). The first query_heads / heads of a layer are those of its
     * first KV head. */
    const float *queries;
    uint32_t query_heads;            /* a multiple of the model's KV heads */
    uint32_t k;                      /* blocks of each layer, 1 to KVQ_RECALL_BLOCKS_MAX */
    uint64_t first, end;             /* blocks that lie wholly among these tokens; end 0: all */
    uint32_t first_layer, end_layer; /* that the queries are of; end 0: all */
    bool fetch;                      /* with K and V */
    enum kvq_dtype dtype;            /* of these; 0: the session's own */
    uint64_t if_version;             /* 0: not compared */
    int64_t deadline_ms;             /* 0: the client's; negative: none */
};

struct kvq_recalled_range {
    uint64_t first;
    uint32_t tokens;
    float share; /* the largest part of its attention that a query gives to a block of it, estimated
                  */
};

struct kvq_recalled_layer {
    const struct kvq_recalled_range *ranges; /* ascending, none touching the next */
    size_t count;
    uint64_t tokens;   /* of all ranges, one behind the other */
    const void *k, *v; /* [tokens, heads, head_dim]; NULL where not fetched */
};

/* All of it is the client's, until its next call. */
struct kvq_recalled_keys {
    const struct kvq_recalled_layer *layers; /* from first_layer on */
    uint32_t layer_count;
    uint64_t version; /* of the session */
    uint64_t tokens;  /* of all layers together */
    uint64_t bytes;   /* of K and V */
    enum kvq_dtype dtype;
};

/* Finds, for each layer, the k blocks of KVQ_RECALL_BLOCK_TOKENS tokens that its queries attend to
 * most, as an estimate from summaries of the session's keys: it must have been created with
 * key_summaries, else this is KVQ_UNSUPPORTED. Nothing is read from disk for it. The newest tokens,
 * which are not coded yet, are never among them. With fetch their K and V come in the same call:
 * KVQ_MISS, and nothing counts, where the session lost some of them meanwhile. KVQ_INVALID: layers,
 * heads, k or values that cannot be. KVQ_MISS: no such session. KVQ_MODEL_MISMATCH,
 * KVQ_VERSION_CHANGED. */
int kvq_recall_keys(struct kvq_client *client, const struct kvq_session_state *state,
                    const struct kvq_recall_keys_options *options,
                    struct kvq_recalled_keys *recalled);

/* ---- Blocks: tokens that a host knows by keys of its own ----
 *
 * Where the daemon has a disk they are saved when it ends in order, and by kvq_flush(NULL). */

enum { KVQ_BLOCK_KEY_BYTES_MAX = 64, KVQ_BLOCK_KEYS_MAX = 512 };

/* 1 to KVQ_BLOCK_KEY_BYTES_MAX bytes, of any value, that stand for a block's tokens and all before
 * them. What else changes K and V (a rank, an adapter) belongs into the key or the model. */
struct kvq_key {
    const void *bytes;
    size_t byte_count;
};

/* The blocks of a model and geometry, and how those that are put are kept. A plain value: copy it,
 * keep it, use it with any client; in calls it stays in place until there is a result. */
struct kvq_blocks {
    char model[KVQ_MODEL_BYTES_MAX + 1];
    struct kvq_geometry geometry;
    uint32_t page_tokens;
    bool has_level;
    int level;
    double min_snr_db;
    struct kvq_policy_options policy; /* size 0: none is given */
};

struct kvq_blocks_options {
    size_t size;
    const char *model;
    const struct kvq_geometry *geometry;
    bool has_level;
    int level; /* as of kvq_open(), like the next two */
    double min_snr_db;
    const struct kvq_policy_options *policy;
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

/* Fills blocks, on success only; nothing is created. KVQ_INVALID, KVQ_UNSUPPORTED: a geometry that
 * cannot be, or not be held here. */
int kvq_blocks(struct kvq_client *client, const struct kvq_blocks_options *options,
               struct kvq_blocks *blocks);

struct kvq_block_put_options {
    size_t size;
    struct kvq_key key;
    /* The block before it in the sequence, with which it is then kept: pages are shared, so that
     * small blocks take no more than large ones. No bytes: none, or not known. */
    struct kvq_key parent;
    uint32_t tokens;
    uint64_t first_position; /* of its first token in the sequence; matters without a parent that is
                              * there: only a sequence's first 4 tokens are kept exact */
    struct kvq_source k, v;
    uint32_t wait_ms;    /* for memory at the limit, before KVQ_FULL; 0: the daemon's default, or
                          * half of the call's deadline where that is shorter */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

/* Stores a block, all or nothing. KVQ_EXISTS: there is one of this key, which stays as it is.
 * KVQ_BUSY: it is just being put. KVQ_FULL, KVQ_UNSUPPORTED. */
int kvq_block_put(struct kvq_client *client, const struct kvq_blocks *blocks,
                  const struct kvq_block_put_options *options);

struct kvq_block_get_options {
    size_t size;
    const struct kvq_key *keys;
    size_t count;                    /* at most KVQ_BLOCK_KEYS_MAX */
    uint32_t tokens;                 /* of each block: one of another length is not there */
    const struct kvq_target *k, *v;  /* one a key, with room for tokens; NULL: not wanted */
    uint32_t first_layer, end_layer; /* end_layer 0: all */
    enum kvq_dtype dtype;            /* as of kvq_fetch() */
    int64_t deadline_ms;             /* 0: the client's; negative: none */
};

/* Fetches the blocks that are there; hits, one a key, tells which. The memory of the others is
 * undefined after the call, that of all of them until it has returned 0. result may be NULL; its
 * version is 0. */
int kvq_block_get(struct kvq_client *client, const struct kvq_blocks *blocks,
                  const struct kvq_block_get_options *options, bool *hits,
                  struct kvq_fetch_result *result);

enum kvq_block_action {
    KVQ_BLOCK_EXISTS = 0, /* only asks */
    KVQ_BLOCK_TOUCH = 1,  /* those that are there count as used */
    KVQ_BLOCK_DELETE = 2,
};

struct kvq_block_control_options {
    size_t size;
    const struct kvq_key *keys;
    size_t count; /* at most KVQ_BLOCK_KEYS_MAX */
    enum kvq_block_action action;
    uint64_t lease_ms;   /* for so long those that are there are not evicted; not with a deletion */
    int64_t deadline_ms; /* 0: the client's; negative: none */
};

/* tokens, one a key, is filled with the lengths of the blocks, 0 for those that are not there (or
 * were not). What is deleted would not come back from disk; KVQ_DISK: it might, for that failed. */
int kvq_block_control(struct kvq_client *client, const struct kvq_blocks *blocks,
                      const struct kvq_block_control_options *options, uint32_t *tokens);

/* ---- What is there ---- */

enum kvq_place { KVQ_PLACE_PAGES = 0, KVQ_PLACE_TAIL = 1, KVQ_PLACE_SINKS = 2 };

struct kvq_level_info {
    enum kvq_place place;
    int level; /* of KVQ_PLACE_PAGES, and of a tail that is coded */
    uint64_t tokens, bytes;
};

struct kvq_session_info {
    const char *session, *model;
    struct kvq_geometry geometry;
    int level;
    double min_snr_db; /* that every page has at least; 0: none was asked */
    uint64_t id;       /* never used again, even for a session of the same name */
    uint64_t version;
    uint64_t tokens;
    uint64_t tokens_available; /* the first that can be fetched: fewer after an eviction; an append
                                * continues there */
    uint32_t tail_tokens, page_tokens;
    uint64_t logical_bytes; /* at the width of the values appended */
    uint64_t stored_bytes;  /* everything the session takes, shared parts in full */
    uint64_t unique_bytes;  /* what deleting it would free */
    uint64_t values;        /* numbers of K and V together */
    uint64_t age_ms;        /* since it was made */
    uint64_t idle_ms;       /* since it was last opened, written or fetched */
    uint64_t pinned_ms;     /* what is left of its pin; 0: not pinned */
    struct kvq_loss k, v;   /* of all that is or was coded */
    /* From the above; NaN where there is nothing to divide by. */
    double ratio;                        /* bytes of the values at 16 bits / stored_bytes */
    double ratio_input;                  /* logical_bytes / stored_bytes */
    double bits_per_value;               /* stored_bytes * 8 / values */
    double snr_k_db, snr_v_db;           /* 10 log10(energy / error); NaN if exact */
    const struct kvq_level_info *levels; /* NULL in a list */
    size_t level_count;
    struct kvq_policy policy;
    enum kvq_sharing sharing;
    uint64_t token_ids_tokens; /* that have ids: from the first on */
    uint32_t idle_steps;       /* that it has taken by now */
    bool tail_coded;           /* the tail is coded while the session is idle */
    enum kvq_durability durability;
    uint64_t disk_bytes; /* of what it has on disk, in memory as well or not */
    struct {
        uint32_t count;
        uint64_t bytes;        /* as given */
        uint64_t stored_bytes; /* of the session's */
    } attachments;
    struct {
        uint64_t entries;
        uint64_t batches;      /* in which they are */
        uint64_t stored_bytes; /* of the session's */
    } embeddings;
    /* It keeps summaries of its keys; what of stored_bytes these are. */
    bool key_summaries;
    uint64_t key_summaries_bytes;
    const char *tenant; /* whose it is */
};

/* Everything about one session. Strings and levels are the client's, until its next call.
 * KVQ_MISS: there is none. */
int kvq_info(struct kvq_client *client, const char *session, struct kvq_session_info *info);

struct kvq_session_list {
    const struct kvq_session_info *sessions; /* ascending id */
    size_t count;
    bool more; /* ask again with the last id */
};

/* One page of the sessions whose id is above after_id, at most limit (0: as many as the daemon
 * sends at a time). The sessions are the client's, until its next call. */
int kvq_list(struct kvq_client *client, uint64_t after_id, uint32_t limit,
             struct kvq_session_list *list);

/* The same of the sessions of all tenants, by an admin. KVQ_PERMISSION_DENIED: it is none. */
int kvq_list_all(struct kvq_client *client, uint64_t after_id, uint32_t limit,
                 struct kvq_session_list *list);

struct kvq_operation_count {
    const char *operation;
    uint64_t requests, errors;
    uint64_t total_us, max_us; /* from the first frame to the last, of those that are closed */
};

struct kvq_error_count {
    const char *error; /* as kvq_error_name() */
    uint64_t count;
};

/* What a daemon takes: everything; no new sessions, forks, appends, attachments or blocks; no
 * change at all, but for pins. What is refused is KVQ_READ_ONLY. */
enum kvq_state { KVQ_STATE_UNSET, KVQ_STATE_NORMAL, KVQ_STATE_DRAINED, KVQ_STATE_READ_ONLY };

/* How many more tokens of a model fit into what is free. */
struct kvq_model_capacity {
    const char *model;
    uint64_t tokens[KVQ_LEVELS]; /* by level - KVQ_LEVEL_EXACT */
};

enum kvq_takeover {
    KVQ_TAKEOVER_NONE, /* nothing was kept, or it was empty */
    KVQ_TAKEOVER_DONE,
    KVQ_TAKEOVER_COLD,      /* the daemon began without */
    KVQ_TAKEOVER_SET_ASIDE, /* likewise, for what was kept had crashed it */
};

/* What a tenant has of what it may have. */
struct kvq_quota {
    uint64_t used, limit; /* limit 0: none */
    uint64_t refused;     /* since the start: what the limit did not let through at once */
};

struct kvq_tenant_stats {
    const char *tenant;
    struct kvq_quota memory_bytes, disk_bytes;
    struct kvq_quota in_flight_bytes; /* buffers and open chunks of requests under way */
    struct kvq_quota sessions, connections;
    uint64_t requests_limit; /* a second; 0: none */
};

struct kvq_stats {
    const char *version; /* the daemon's */
    uint64_t pid;
    double uptime_seconds;
    const char *const *sockets;
    size_t socket_count;
    uint64_t limit_bytes, used_bytes, rss_bytes;
    uint64_t sessions, tokens;
    uint64_t bytes_16bit; /* what the values of all sessions take at 16 bits */
    uint64_t stored_bytes;
    uint64_t connections;
    const struct kvq_operation_count *operations;
    size_t operation_count;
    const struct kvq_error_count *errors; /* those that occurred */
    size_t error_count;
    uint64_t unique_bytes; /* stored_bytes with what is shared counted once */
    /* Parts of used_bytes; the rest is buffers of connections and appends under way. */
    struct {
        uint64_t pages_bytes, tails_bytes, sessions_bytes, fixed_bytes;
        uint64_t warm_bytes; /* free but resident: not in used_bytes */
    } memory;
    struct {
        uint64_t queued_sessions, chunks, bytes_before, bytes_after;
    } keeper;                            /* what was coded anew since the start */
    const struct kvq_level_info *levels; /* of all sessions, shared chunks once */
    size_t level_count;
    /* Since the start. */
    uint64_t appended_tokens, appended_bytes, fetched_tokens, fetched_bytes;
    uint64_t fetch_hits, fetch_misses;
    uint64_t connections_accepted, connections_refused, connections_stalled;
    uint64_t sessions_created, sessions_deleted;
    uint64_t appends_waiting; /* for memory, now */
    uint64_t logical_bytes;   /* of all sessions' values at the width of those appended */
    /* For want of memory: how often, what was brought to its floor, what lost tokens (and which
     * sessions their last), and requests that were refused. Bytes are what that freed. */
    struct {
        uint64_t rounds, aged_sessions, aged_bytes;
        uint64_t evicted_sessions, evicted_tokens, evicted_bytes, deleted_sessions, refused;
        uint64_t spilled_chunks, spilled_bytes; /* that went to disk, before anything is evicted, */
        uint64_t coded_tails, coded_tail_bytes; /* as raw tails are coded */
    } pressure;
    const struct kvq_model_capacity *capacity; /* of some models that sessions are or were of */
    size_t capacity_count;
    /* What time alone has done, since the start: chunks coded anew, and tails coded and decoded
     * again, with the bytes that they took before and after; sessions deleted by their TTL. */
    struct {
        uint64_t chunks, bytes_before, bytes_after, expired_sessions;
        uint64_t coded_tails, tail_bytes_before, tail_bytes_after, decoded_tails;
    } ageing;
    enum kvq_state state;
    /* Since the start, but for the last: chunks that were let go of for another session's, and
     * their bytes; matches, those that found something, and the tokens found. */
    struct {
        uint64_t chunks, bytes, matches, match_hits, matched_tokens;
        uint64_t token_ids_bytes; /* that all ids take; in memory.sessions_bytes */
    } sharing;
    /* What is on disk (limit_bytes 0: there is none), and what was done there since the start.
     * While it is recovering, what an earlier daemon left there is still being found. */
    struct {
        bool recovering;
        uint64_t limit_bytes, used_bytes, live_bytes; /* of files; of what counts in them */
        uint64_t written_bytes, read_bytes, loaded_chunks, loaded_bytes, failed_loads;
        uint64_t saves, failed_saves; /* of sessions */
        uint64_t syncs, damaged, reclaimed_bytes, evicted_bytes, queued_bytes;
    } disk;
    /* Blocks that are there now, their tokens, and what their keys take (in memory.sessions_bytes);
     * since the start those put, asked for, found and lost again for want of memory or by age. */
    struct {
        uint64_t blocks, tokens, index_bytes, put, asked, hits, lost;
    } blocks;
    /* Attachments that there are, shared ones once, as they were given and as they are in memory
     * (in memory.sessions_bytes); since the start those put, found, not found, and found damaged.
     */
    struct {
        uint64_t attachments, bytes, stored_bytes, put, hits, misses, damaged;
    } attachments;
    /* Entries that there are, with each session that has them, and the batches in which they are,
     * shared ones once (in memory.sessions_bytes); since the start those put and deleted (replaced
     * ones, too), recalls, the ranges they found and what they took. Of a plugin its answers, those
     * that came too late, those with a fault, hits that could not be, and what it says it takes of
     * memory, now. */
    struct {
        uint64_t entries, batches, stored_bytes, put, deleted, recalls, hits, total_us, max_us;
        char plugin[64]; /* "": none */
        bool plugin_on;  /* else it was switched off */
        uint64_t plugin_searches, plugin_timeouts, plugin_faults, dropped_hits, plugin_bytes;
    } recall;
    /* How the daemon began with what its service manager kept of the one before: why it could not
     * be taken over (empty where it could), else what was, how many sessions lost tokens by it, and
     * how long that took. A pool that crashed the daemon is kept for inspection. */
    struct {
        enum kvq_takeover outcome;
        const char *why;
        uint64_t sessions, tokens, bytes, cut_sessions, took_us;
        uint64_t set_aside_bytes; /* that are kept so now; 0: none */
    } takeover;
    const struct kvq_tenant_stats *tenants; /* the client's own; for an admin the first 16 */
    size_t tenant_count;
};

/* The daemon's state. Strings and arrays are the client's, until its next call. */
int kvq_stats(struct kvq_client *client, struct kvq_stats *stats);

struct kvq_control_options {
    size_t size;
    enum kvq_state state; /* KVQ_STATE_UNSET: stays */
    uint64_t limit_bytes; /* of memory, until the daemon's next reload or restart; 0: stays */
};

struct kvq_control {
    enum kvq_state state;
    uint64_t limit_bytes, used_bytes; /* while these are more, room is being made */
};

/* Changes what is given, and tells how it is now; control may be NULL. KVQ_INVALID: a limit that
 * the daemon cannot have without a restart. */
int kvq_control(struct kvq_client *client, const struct kvq_control_options *options,
                struct kvq_control *control);

/* ---- The codec without a daemon: for programs that keep K and V compressed themselves ----
 *
 * A page is K or V of one layer and sequence, all heads, some tokens, in the form in which the
 * daemon stores them; it says itself what it holds. A layer is what a model's attention works on:
 * tokens in pages, and newer ones as they are. kvq_layer_step() is one call a layer and step.
 *
 * These functions allocate nothing and may be called from any thread. `workspace` is
 * KVQ_PAGE_WORKSPACE_BYTES of any content, aligned to 64 bytes, for one call at a time.
 * KVQ_ARGUMENT: shapes and levels that cannot be; KVQ_INVALID: bytes that are no page;
 * KVQ_UNSUPPORTED: a page of a newer libkvq. */

enum {
    KVQ_PAGE_WORKSPACE_BYTES = 7 << 19,
    KVQ_PAGE_TOKENS_MAX = 128,
    KVQ_PAGE_SINK_TOKENS = 4, /* a sequence's first tokens: kept exact */
};

/* How many tokens a page of such a layer may have, a power of two; 0: there is no such layer.
 * head_dim_v is 0 without V. */
uint32_t kvq_page_tokens(uint32_t heads, uint32_t head_dim_k, uint32_t head_dim_v);

/* Value (token, head, dim) is at values + token * token_stride + head * head_stride + dim values;
 * strides are in bytes. */
struct kvq_page_values {
    void *values;
    enum kvq_dtype dtype;
    uint32_t tokens, heads, head_dim;
    size_t token_stride, head_stride;
};

struct kvq_page_source {
    struct kvq_page_values values;
    enum kvq_part part;
    int level;              /* KVQ_LEVEL_EXACT to KVQ_LEVEL_COARSEST */
    uint32_t sink_tokens;   /* so many of the first are kept exact */
    uint32_t layer, layers; /* of which it is, for V of early layers is coded finer; 0: not known */
};

/* No page of these values is larger; 0: they have no page. */
size_t kvq_page_bound_bytes(const struct kvq_page_values *values);

/* Writes a page to `page`, which has room for kvq_page_bound_bytes(), and its length to
 * *page_bytes. What a lossy level cannot hold (infinities, NaNs) is stored exact. */
int kvq_page_encode(const struct kvq_page_source *source, void *workspace, void *page,
                    size_t room_bytes, size_t *page_bytes);

struct kvq_page_info {
    enum kvq_part part;
    int level;
    enum kvq_dtype dtype; /* of the values that it was made of */
    uint32_t tokens, heads, head_dim;
    struct kvq_loss loss;
};

int kvq_page_info(const void *page, size_t page_bytes, struct kvq_page_info *info);

/* Tokens `first` on, as many as the target has, as the target's dtype. After an error the target is
 * undefined. */
int kvq_page_decode(const void *page, size_t page_bytes, uint32_t first,
                    const struct kvq_page_values *target, void *workspace);

/* Makes a page coarser from its integers alone: of a level from 0 on to one above it. `aged` has
 * room for page_bytes. */
int kvq_page_age(const void *page, size_t page_bytes, int level, void *workspace, void *aged,
                 size_t *aged_bytes);

struct kvq_page_bytes {
    const void *page;
    size_t bytes;
};

/* K and V of one layer, of `rows` sequences of equal length. */
struct kvq_layer {
    uint32_t rows, heads, head_dim[2];  /* of K, of V */
    enum kvq_dtype dtype;               /* of what is added and restored */
    uint32_t page_count;                /* of a row */
    const struct kvq_page_bytes *pages; /* [page_count][rows][2], K and V */
    const uint32_t *page_tokens;        /* [page_count]: those that count, from the first on */
    /* The tokens after them: [rows][heads][tail_room][head_dim] each. */
    enum kvq_dtype tail_dtype; /* dtype, or KVQ_F16 for KVQ_F32 */
    void *tail[2];
    uint32_t tail_tokens, tail_room;
};

/* New tokens of all rows; strides in bytes. */
struct kvq_layer_values {
    const void *values;
    size_t row_stride, head_stride, token_stride;
};

/* Puts new tokens behind the tail's, which has room for them. KVQ_TOO_LARGE: a value is too large
 * for the tail's dtype; the layer is as it was. */
int kvq_layer_add(struct kvq_layer *layer, uint32_t tokens, const struct kvq_layer_values added[2]);

/* Writes all tokens, K to restored[0] and V to restored[1]: [rows][heads][tokens][head_dim]. */
int kvq_layer_restore(const struct kvq_layer *layer, void *const restored[2], void *workspace);

/* Both: adds, and restores what was there before with the new values, as they came, behind it. */
int kvq_layer_step(struct kvq_layer *layer, uint32_t tokens, const struct kvq_layer_values added[2],
                   void *const restored[2], void *workspace);

#ifdef __cplusplus
}
#endif

#endif
