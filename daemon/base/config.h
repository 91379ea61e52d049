/* The configuration, from its file and the command line. config_option.h says what each option is.
 *
 * Owns its strings.
 */
#ifndef DAEMON_BASE_CONFIG_H
#define DAEMON_BASE_CONFIG_H

#include <stdint.h>

struct config {
    char *socket;    /* NULL until config_finish(), which looks where DESIGN's order says */
    char *tcp, *tls; /* NULL: none */
    char *tls_certificate, *tls_key, *tls_client_ca, *tls_crl; /* files; NULL: none */
    char *disk, *disk_key;                                     /* NULL: none */
    char *recall_plugin;                                       /* NULL: none */
    char *metrics;                                             /* NULL: none */
    char *tenants;                                             /* a file; NULL: none */
    uint64_t disk_bytes, save_on_exit, tcp_token, tcp_beyond_loopback, core_files;
    uint64_t socket_mode, memory_bytes, reactors, connections, level, landing_level, log_level;
    uint64_t newest_tokens, newest_level, floor, idle_step_ms, ttl_ms;
    uint64_t tail_idle_ms, tail_idle_level;
    uint64_t codec_threads, memory_high_percent, memory_low_percent;
    uint64_t append_wait_ms, stall_ms, request_ms, idle_ms, shutdown_ms, recall_timeout_ms;
    uint64_t slow_request_ms; /* 0: none is logged */
};

/* Every option at its default. */
int config_init(struct config *config) __attribute__((warn_unused_result));
void config_deinit(struct config *config);

/* Reads a file. 0, or -1 with the fault - file, line, what is allowed - in message. */
int config_read(struct config *config, const char *path, char *message, int message_bytes)
    __attribute__((warn_unused_result));

/* Sets one option as a line of the file would. 0, or -1 with what is allowed in message. */
int config_set(struct config *config, const char *name, const char *value, char *message,
               int message_bytes) __attribute__((warn_unused_result));

/* Chooses the socket if none was set. 0, or -1 with the fault in message. */
int config_finish(struct config *config, char *message, int message_bytes)
    __attribute__((warn_unused_result));

/* In words, "NAME BEFORE -> AFTER, ..." or empty: changes that hold now, and those that a restart
 * would make. */
struct config_changes {
    char made[400], waiting[400];
};

/* Takes over from fresh what may change while the daemon runs. */
void config_take_live(struct config *config, const struct config *fresh,
                      struct config_changes *changes);

#endif
