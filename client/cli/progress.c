#include "client/cli/progress.h"

#include "client/cli/words.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void progress_catch_signals(void) {
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void progress_init(struct progress *progress, const char *verb, uint64_t all_bytes) {
    progress_catch_signals();
    *progress = (struct progress){
        .verb = verb,
        .all_bytes = all_bytes,
        .shown_ns = now_ns(), /* work that is done soon shows nothing */
        .terminal = isatty(STDERR_FILENO),
    };
}

bool progress_report(void *context, uint64_t bytes) {
    enum { EVERY_NS = 200000000 };
    struct progress *progress = context;
    char done[WORD_BYTES], all[WORD_BYTES];
    if (progress->terminal && now_ns() - progress->shown_ns >= EVERY_NS) {
        bytes += progress->done_before_bytes;
        fprintf(stderr, "\r\033[K%s %s of %s, %.0f%%", progress->verb, bytes_text(bytes, done),
                bytes_text(progress->all_bytes, all),
                100 * (double)bytes / (double)progress->all_bytes);
        progress->shown_ns = now_ns();
    }
    return !interrupted;
}

bool progress_interrupted(void) {
    return interrupted;
}

void progress_end(struct progress *progress) {
    if (progress->terminal)
        fputs("\r\033[K", stderr);
}
