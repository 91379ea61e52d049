/* The checks of `kvq doctor`: each looks at one thing of the machine or the daemon and says what it
 * found. They read files below a root, so that a test can make up a machine. */
#ifndef CLIENT_CLI_DOCTOR_H
#define CLIENT_CLI_DOCTOR_H

#include "client/c/kvq.h"

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_FAIL };

enum { FOUND_BYTES = 300, MACHINE_PATH_BYTES = 512, MACHINE_FILE_BYTES = 8192 };

struct finding {
    enum finding_state state;
    char found[FOUND_BYTES], advice[FOUND_BYTES]; /* advice is empty where all is well */
};

/* What the configuration says, or the daemon's command line; paths are empty if nothing. */
struct settings {
    char config[MACHINE_PATH_BYTES];
    bool is_given;  /* that path, by the user or the daemon's command line */
    bool is_hidden; /* this user may not read it */
    char disk[MACHINE_PATH_BYTES], disk_key[MACHINE_PATH_BYTES], tenants[MACHINE_PATH_BYTES],
        tls_key[MACHINE_PATH_BYTES], tls_certificate[MACHINE_PATH_BYTES],
        tls_client_ca[MACHINE_PATH_BYTES];
    uint64_t memory_bytes, disk_bytes;
    bool core_files;
};

struct machine {
    const char *root; /* in front of every path; "" for the real one */
    struct settings settings;
    int error;              /* why the daemon does not answer, of enum kvq_error; 0: it does */
    const char *failure;    /* the same in words; NULL: it does */
    const char *socket;     /* its address */
    struct kvq_stats stats; /* what it says of itself */
    uint64_t pid;           /* its process; 0: it does not run, or not here */
};

struct check {
    const char *name;
    void (*run)(const struct machine *machine, struct finding *finding);
};

struct checks {
    const struct check *rows;
    int count;
};

extern const struct checks daemon_checks, limit_checks, file_checks, certificate_checks,
    disk_checks, system_checks;

/* Notes the daemon's process, if that is to be seen. */
void machine_find_process(struct machine *machine, uint64_t pid);

/* Reads the configuration, from what the daemon's command line names if path is NULL. */
void settings_read(const char *path, struct machine *machine);

/* Says what was found, and what to do about it. */
void find(struct finding *finding, enum finding_state state, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void advise(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A file of at most MACHINE_FILE_BYTES - 1 as a string, without what blanks end it. False: it
 * cannot be read; text is empty. */
bool machine_read(const struct machine *machine, const char *path, char text[MACHINE_FILE_BYTES])
    __attribute__((warn_unused_result));

/* The same of the daemon's process: name as in /proc/PID/NAME. */
bool machine_read_process(const struct machine *machine, const char *name,
                          char text[MACHINE_FILE_BYTES]) __attribute__((warn_unused_result));

/* The path below the root. */
const char *machine_path(const struct machine *machine, const char *path,
                         char whole[MACHINE_PATH_BYTES]);

/* The number behind a name in lines such as "MemTotal: 1024 kB". False: it is not there. */
bool number_after(const char *text, const char *name, uint64_t *number);

/* Whether the configuration names no such path; then `otherwise` is what was found, unless this
 * user may not know. */
bool settings_lack(const struct settings *settings, const char *path, const char *otherwise,
                   struct finding *finding);

/* The daemon's limit, whether it runs or not; and what its files may take. */
uint64_t machine_memory_limit(const struct machine *machine);
uint64_t machine_disk_limit(const struct machine *machine);

#endif
