#include "daemon/base/config_option.h"

#include <string.h>

/* Levels are kept from 0 up; the page's own numbers begin at -2. */
static const char *const levels[] = {"exact", "fast8", "0", "1", "2", "3", "4", "5", NULL};
static const char *const tail_levels[] = {"exact", "fast8", NULL};
static const char *const no_or_yes[] = {"no", "yes", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

#define AT(field) offsetof(struct config, field)

const struct config_option config_options[] = {
    {.name = "socket",
     .kind = CONFIG_PATH,
     .offset = AT(socket),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/run/kvquantd/kvquantd.sock",
     .text =
         "The unix socket to listen on. Without it: $KVQ_SOCKET, else "
         "$XDG_RUNTIME_DIR/kvquantd.sock, else /run/kvquantd/kvquantd.sock. Sockets that a "
         "service manager hands over (kvquantd.socket) take the place of this, `tcp` and `tls`."},
    {.name = "tcp",
     .kind = CONFIG_ADDRESS,
     .offset = AT(tcp),
     .example = "127.0.0.1:7420",
     .text = "A TCP port to listen on, too, as HOST:PORT: HOST is in 127.0.0.0/8, [::1] or "
             "localhost (127.0.0.1); port 0 lets the system choose, and the log names it. Whoever "
             "is on this machine can connect to it, so that a token is needed (`tcp_token`). "
             "Other machines come by `tls`. The system service is closed to TCP until "
             "kvquantd-tcp.conf is made a drop-in of it."},
    {.name = "tcp_beyond_loopback",
     .kind = CONFIG_CHOICE,
     .offset = AT(tcp_beyond_loopback),
     .standard = "no",
     .choices = no_or_yes,
     .text = "Whether `tcp`, or a TCP socket that a service manager hands over, may be an address "
             "that other machines reach. With yes, whoever is on the way there reads tokens, K and "
             "V, and can change them; a warning says so at every start. `tls` is what to use."},
    {.name = "socket_mode",
     .kind = CONFIG_OCTAL,
     .offset = AT(socket_mode),
     .most = 0777,
     .standard = "0660",
     .text =
         "Who may connect to the unix socket: its file's mode, octal. Without `tenants`, whoever "
         "can connect can read every session."},
    {.name = "tenants",
     .kind = CONFIG_FILE,
     .offset = AT(tenants),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/tenants",
     .text =
         "A file that says whose clients are: the names of sessions, models, token prefixes and "
         "blocks are those of a tenant, and no tenant finds another's. Each line is `user NAME "
         "TENANT ROLE`, `group NAME TENANT ROLE`, `token SHA256 TENANT ROLE` or `certificate "
         "SUBJECT "
         "TENANT ROLE`; a number may stand for a name, and * for every user. On the unix socket "
         "the first line counts that is the "
         "client's user or one of its groups, and who is in no line is refused; `kvq token` makes "
         "a "
         "token, for TCP and where users do not tell clients apart. Over TLS the first "
         "`certificate` "
         "line counts whose SUBJECT is the common name of the client's certificate or, where there "
         "is a = in it, all of its subject, as `openssl x509 -noout -subject -nameopt RFC2253` "
         "prints it; one with blanks or # stands in \"quotation marks\". A token that is sent "
         "over TLS, too, has to be of the same tenant, and the lesser of both roles holds. Roles: "
         "a reader fetches, asks "
         "and recalls, a worker changes sessions, too, and an admin may do what concerns the "
         "daemon "
         "or other tenants: list all sessions, set level and limits, drain. A name without a slash "
         "is one of the credentials that the service manager hands over (LoadCredential=). Without "
         "it every user of this machine who can connect is an admin of the tenant `default`. "
         "SIGHUP has the file read again: who is connected and not its tenant's any more is sent "
         "away at its next frame; its path needs a restart. A line `limit TENANT name=value ...` "
         "says what a tenant may have at most, and "
         "`limit * ...` what each may that has no such line: `memory`, `disk` and `in_flight` "
         "(sizes: of what its requests under way hold), `sessions`, `connections`, `requests` (a "
         "second). At its limit of memory a tenant loses its own coldest sessions, never others "
         "theirs; requests that come too fast are read later. A reload has limits hold at once."},
    {.name = "tcp_token",
     .kind = CONFIG_CHOICE,
     .offset = AT(tcp_token),
     .standard = "yes",
     .choices = no_or_yes,
     .text =
         "Whether who comes over TCP needs a token of `tenants`. With no, whoever can connect is "
         "an admin of the tenant `default` there, and can read every session of it."},
    {.name = "tls",
     .kind = CONFIG_ADDRESS,
     .offset = AT(tls),
     .example = "0.0.0.0:7421",
     .text = "A TCP port for TLS 1.3 to listen on, too, as HOST:PORT with a numeric HOST of any "
             "network, 0.0.0.0 or [::] for all; port 0 lets the system choose, and the log names "
             "it. A client shows a certificate of `tls_client_ca`, and a `certificate` line of "
             "`tenants` says whose it is. For the system service, which is closed to it, systemd "
             "opens the port: kvquantd-tls.socket. A TCP socket that a service manager hands over "
             "is for TLS where its unit has FileDescriptorName=tls."},
    {.name = "tls_certificate",
     .kind = CONFIG_FILE,
     .offset = AT(tls_certificate),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/server.crt",
     .text = "The daemon's certificate, PEM; behind it those between it and the CA that clients "
             "know, if there are any. A name without a slash is one of the credentials that the "
             "service manager hands over (LoadCredential=), here and in the three that follow. "
             "SIGHUP has all four files read again, for those who connect from then on; nobody is "
             "disconnected. If one is faulty, all stay as they were."},
    {.name = "tls_key",
     .kind = CONFIG_FILE,
     .offset = AT(tls_key),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/server.key",
     .text = "The certificate's private key, PEM without a passphrase, readable by its owner "
             "alone."},
    {.name = "tls_client_ca",
     .kind = CONFIG_FILE,
     .offset = AT(tls_client_ca),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/clients-ca.crt",
     .text = "The certificates, PEM, of the authorities that issue clients' certificates."},
    {.name = "tls_crl",
     .kind = CONFIG_FILE,
     .offset = AT(tls_crl),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/clients.crl",
     .text = "Lists of revoked certificates, PEM: one of each authority. Where it is set, clients "
             "of an authority whose list is missing, or past its next update, are refused, too."},
    {.name = "memory",
     .kind = CONFIG_SIZE,
     .offset = AT(memory_bytes),
     .least = 32 << 20,
     .most = UINT64_C(1) << 45,
     .standard = "1G",
     .live = true,
     .text =
         "The memory limit: everything the daemon holds for its clients, its buffers and its "
         "own working space stay below it. Up to a quarter of it, at most 256M, is touched "
         "ahead, so that appends need not wait for fresh pages; that is given up for anything "
         "that needs it. A model is refused whose page of tokens, raw and of all layers, "
         "exceeds an eighth of the limit. At least 32M. A reload changes it, up to twice that "
         "with which the pool of memory was made, at this start or at an earlier one that it was "
         "taken over from; where more is in use then, room is made."},
    {.name = "memory_high",
     .kind = CONFIG_COUNT,
     .offset = AT(memory_high_percent),
     .least = 1,
     .most = 100,
     .standard = "92",
     .live = true,
     .text = "Where room begins to be made, in percent of the memory that the limit leaves to "
             "sessions: what was not used for longest is aged to its floor, and when there is "
             "nothing left to age, sessions lose their newest tokens. While appends wait for "
             "memory room is made whatever the mark."},
    {.name = "memory_low",
     .kind = CONFIG_COUNT,
     .offset = AT(memory_low_percent),
     .least = 1,
     .most = 100,
     .standard = "88",
     .live = true,
     .text = "How far down room is made, in percent as above; at most memory_high counts."},
    {.name = "reactors",
     .kind = CONFIG_COUNT,
     .offset = AT(reactors),
     .least = 1,
     .most = 64,
     .standard = "2",
     .text = "Threads that serve connections, 1 to 64. Two suit most machines: one core decodes as "
             "fast as a socket carries."},
    {.name = "codec_threads",
     .kind = CONFIG_COUNT,
     .offset = AT(codec_threads),
     .most = 64,
     .standard = "1",
     .text =
         "Threads that bring what was appended, and what ages, to its level in the background, "
         "up to 64; 0: as many as there are processors, less one, where `memory` has room. They "
         "yield to the reactors. "
         "Each takes some megabytes of `memory`, and a page of tokens, raw and of all layers, "
         "of the largest model."},
    {.name = "connections",
     .kind = CONFIG_COUNT,
     .offset = AT(connections),
     .least = 1,
     .most = 1 << 20,
     .standard = "1024",
     .live = true,
     .text = "Connections at a time; one more is closed at once."},
    {.name = "level",
     .kind = CONFIG_CHOICE,
     .offset = AT(level),
     .standard = "3",
     .choices = levels,
     .live = true,
     .text = "The level of a session whose client names none: exact, fast8, 0, 1, 2, 3, 4, 5 (fine "
             "to coarse). Sessions that there are keep theirs."},
    {.name = "newest_tokens",
     .kind = CONFIG_COUNT,
     .offset = AT(newest_tokens),
     .most = 1 << 30,
     .standard = "0",
     .live = true,
     .text = "So many of a session's newest tokens are kept at `newest_level`, the others at the "
             "session's level; 0: all at the session's level. This and the four that follow hold "
             "for sessions that are made from now on and whose clients say nothing else."},
    {.name = "newest_level",
     .kind = CONFIG_CHOICE,
     .offset = AT(newest_level),
     .standard = "fast8",
     .choices = levels,
     .live = true,
     .text = "The level of the newest tokens; a session whose own level is finer has that."},
    {.name = "floor",
     .kind = CONFIG_CHOICE,
     .offset = AT(floor),
     .standard = "4",
     .choices = levels,
     .live = true,
     .text = "The coarsest level that a session is brought to by `idle_step` or where memory is "
             "short. A session whose client names a level and no floor stays at that level."},
    {.name = "idle_step",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(idle_step_ms),
     .most = UINT64_C(31536000000),
     .standard = "30min",
     .live = true,
     .text = "A session that is not used for so long is kept one level coarser, after twice that "
             "time two, down to its floor."},
    {.name = "ttl",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(ttl_ms),
     .most = UINT64_C(31536000000),
     .standard = "never",
     .live = true,
     .text = "A session that is not used for so long is deleted, unless it is pinned."},
    {.name = "tail_idle",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(tail_idle_ms),
     .most = UINT64_C(31536000000),
     .standard = "10s",
     .live = true,
     .text = "A session's newest tokens that fill no page are kept raw, and coded when it is not "
             "used for so long."},
    {.name = "tail_idle_level",
     .kind = CONFIG_CHOICE,
     .offset = AT(tail_idle_level),
     .standard = "fast8",
     .choices = tail_levels,
     .live = true,
     .text = "How they are then coded: exact or fast8, but exact where their own level is, or "
             "decibels are promised. What is appended later goes on from what that left of them."},
    {.name = "landing_level",
     .kind = CONFIG_CHOICE,
     .offset = AT(landing_level),
     .standard = "fast8",
     .choices = levels,
     .live = true,
     .text =
         "How appended pages are kept until the keeper has brought them to their session's "
         "level: no coarser than this. fast8 is quickest; a session whose own level is finer "
         "is kept at its own; what was promised decibels, and values of 8 bits, are kept exact."},
    {.name = "append_wait",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(append_wait_ms),
     .least = 1,
     .most = 3600000,
     .standard = "2s",
     .live = true,
     .text = "How long an append waits at the memory limit before it is refused (a client may ask "
             "for another time)."},
    {.name = "stall_timeout",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(stall_ms),
     .least = 1,
     .most = 3600000,
     .standard = "30s",
     .live = true,
     .text =
         "A connection whose client takes longer than this to read a frame, to send one that it "
         "has begun, or to say what it is at first, is closed; a tenth of it while others lack "
         "large buffers because of such clients."},
    {.name = "request_timeout",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(request_ms),
     .least = 1,
     .most = UINT64_C(31536000000),
     .standard = "5min",
     .live = true,
     .text = "An append, or another request whose data comes in parts, is cancelled when nothing "
             "more of it has come for so long: what it holds is free again, and others may append "
             "to its session."},
    {.name = "idle_timeout",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(idle_ms),
     .most = UINT64_C(31536000000),
     .standard = "never",
     .live = true,
     .text = "A connection on which nothing is asked for so long is closed; clients connect again "
             "when they need to."},
    {.name = "shutdown_timeout",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(shutdown_ms),
     .least = 1,
     .most = 3600000,
     .standard = "10s",
     .live = true,
     .text = "How long requests may take to finish after SIGTERM."},
    {.name = "disk",
     .kind = CONFIG_FILE,
     .offset = AT(disk),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/var/lib/kvquantd",
     .text =
         "A folder for what does not fit into `memory`, for sessions that ask for durability on "
         "disk, and for all of them when the daemon ends: the next start has them again. It is "
         "made if it is missing, and one daemon's alone. Without it nothing is written to disk."},
    {.name = "disk_size",
     .kind = CONFIG_SIZE,
     .offset = AT(disk_bytes),
     .least = 64 << 20,
     .most = UINT64_C(1) << 50,
     .standard = "16G",
     .text = "How much the files in `disk` may take together. When it is reached, what is coldest "
             "there is evicted. At least 64M."},
    {.name = "disk_key",
     .kind = CONFIG_FILE,
     .offset = AT(disk_key),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/etc/kvquant/disk.key",
     .text =
         "A file with the key that encrypts and authenticates what is on disk (AES-256-GCM): 32 "
         "bytes, or 64 hexadecimal digits, readable by its owner alone. A name without a slash "
         "is one of the credentials that the service manager hands over (LoadCredential=). "
         "Names of tenants, models and sessions are on disk in the clear."},
    {.name = "save_on_exit",
     .kind = CONFIG_CHOICE,
     .offset = AT(save_on_exit),
     .standard = "yes",
     .choices = no_or_yes,
     .live = true,
     .text =
         "Whether all sessions are saved to `disk` when the daemon ends, those used last first, "
         "as many as there is room for. With no, a restart by a service manager that keeps the "
         "memory (FileDescriptorStoreMax= in its unit) takes less than a second and loses "
         "nothing all the same; when the service is stopped for good, what is not on disk is "
         "gone."},
    {.name = "recall_plugin",
     .kind = CONFIG_FILE,
     .offset = AT(recall_plugin),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/usr/lib/kvquant/recall-hnswlib.so m=16",
     .text = "A shared object that finds embeddings where the exact index would have to read more "
             "than some megabytes, as its absolute path and, behind a blank, what it is to be "
             "told; kvq_retriever.h says what it exports. What it answers is checked, but it "
             "runs in the daemon: its crash is the daemon's, and it can read everything. What it "
             "says that it takes is counted against `memory`. Without it, or where it cannot be "
             "loaded, does not answer in time, takes more than is left or answers with faults "
             "again and again, the exact index does all. With `disk`, `save_on_exit` and no "
             "`disk_key` its indexes are saved there at the end, beside `disk_bytes`, if it can."},
    {.name = "recall_timeout",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(recall_timeout_ms),
     .least = 1,
     .most = 3600000,
     .standard = "500ms",
     .live = true,
     .text = "How long a call of `recall_plugin` may take: a search, or to take in sixteen "
             "embeddings. One that takes longer switches it off until the next start."},
    {.name = "metrics",
     .kind = CONFIG_SOCKET,
     .offset = AT(metrics),
     .most = CONFIG_VALUE_BYTES - 1,
     .example = "/run/kvquantd/metrics.sock",
     .text =
         "Where metrics and the status page are served by HTTP: a unix socket, of mode "
         "`socket_mode`, or HOST:PORT on loopback as for `tcp`. GET /metrics is for Prometheus "
         "(OpenMetrics), / the status page, /status.json what it shows, /healthz answers 200 "
         "while the daemon serves. Nothing can be changed there, and no K, V or tokens are "
         "shown. Names of sessions and tenants are, on a unix socket, to whoever may connect to "
         "it; on a TCP port, where whoever is on this machine may, only sums. Not for other "
         "machines: a proxy or an SSH tunnel leads there. Takes 5M of `memory`."},
    {.name = "slow_request",
     .kind = CONFIG_MILLISECONDS,
     .offset = AT(slow_request_ms),
     .most = 3600000,
     .standard = "never",
     .live = true,
     .text = "A request that takes this long, from its first frame to its answer, is logged as a "
             "warning: with its number, its operation, session and peer, how long it took and how "
             "many bytes went. A client that reads slowly makes its fetches slow."},
    {.name = "log_level",
     .kind = CONFIG_CHOICE,
     .offset = AT(log_level),
     .standard = "info",
     .choices = log_levels,
     .live = true,
     .text = "What is logged: error, warning, info or debug. It goes to the journal where standard "
             "error is connected to it, each line with the peer, client, operation, session and "
             "error it is about as fields (KVQ_PEER, KVQ_CLIENT, ...); else to standard error as "
             "text. K, V and tokens are never logged."},
    {.name = "core_files",
     .kind = CONFIG_CHOICE,
     .offset = AT(core_files),
     .standard = "no",
     .choices = no_or_yes,
     .text = "Whether the daemon may leave a core file, and may be looked into by its own user "
             "(ptrace, /proc/PID/mem). With no, only root can do the latter, and a crash leaves "
             "what it logs. With yes, K and V are kept out of core files; names, token ids and "
             "keys are not."},
};

const int config_option_count = sizeof config_options / sizeof config_options[0];

const struct config_option *config_option_find(const char *name) {
    for (int i = 0; i < config_option_count; i++)
        if (strcmp(config_options[i].name, name) == 0)
            return &config_options[i];
    return NULL;
}
