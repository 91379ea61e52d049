/* File descriptors that the service manager handed over at the start (sd_listen_fds(3)): sockets,
 * and what an earlier daemon gave it to keep, by the name that it was given.
 */
#ifndef DAEMON_BASE_INHERITED_H
#define DAEMON_BASE_INHERITED_H

struct inherited {
    int count;
    int *files; /* -1: taken */
    char **names;
};

/* 0, or -1, logged. Once for the process: the environment variables are taken away, so that no
 * child takes them for its own. deinit also after a failure. */
int inherited_init(struct inherited *inherited) __attribute__((warn_unused_result));

/* Closes what nobody has taken. */
void inherited_deinit(struct inherited *inherited);

/* The first of that name, the caller's, or 0. */
int inherited_take(struct inherited *inherited, const char *name);

/* The first that nobody has taken, the caller's, or 0. *name, until deinit: what it was given. */
int inherited_take_next(struct inherited *inherited, const char **name);

/* How many nobody has taken. */
int inherited_left(const struct inherited *inherited);

#endif
