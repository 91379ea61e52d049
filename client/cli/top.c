/* kvq top: what the daemon holds and does, again and again, until it is ended. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/session_list.h"
#include "client/cli/status.h"
#include "client/cli/words.h"

enum { SECONDS_DEFAULT = 3, OPERATIONS_MOST = 64, BAR_COLUMNS = 32, SESSIONS_DEFAULT = 10 };

/* What counts since the start, at one time. */
struct counters {
    double at_seconds;
    uint64_t appended_bytes, appended_tokens, fetched_bytes, fetched_tokens, hits, misses;
    uint64_t evicted_tokens;
    struct {
        uint64_t requests, errors, total_us;
    } operations[OPERATIONS_MOST];
};

static struct counters read_counters(const struct kvq_stats *stats) {
    struct counters counters = {
        .at_seconds = stats->uptime_seconds,
        .appended_bytes = stats->appended_bytes,
        .appended_tokens = stats->appended_tokens,
        .fetched_bytes = stats->fetched_bytes,
        .fetched_tokens = stats->fetched_tokens,
        .hits = stats->fetch_hits,
        .misses = stats->fetch_misses,
        .evicted_tokens = stats->pressure.evicted_tokens,
    };
    for (size_t i = 0; i < stats->operation_count && i < OPERATIONS_MOST; i++) {
        counters.operations[i].requests = stats->operations[i].requests;
        counters.operations[i].errors = stats->operations[i].errors;
        counters.operations[i].total_us = stats->operations[i].total_us;
    }
    return counters;
}

struct frame {
    FILE *out;
    const struct kvq_stats *stats;
    struct counters before, now;
    int lines; /* that the screen has; 0: no screen */
    int written;
};

/* A line's end: what stood there before goes. */
static void end_line(struct frame *frame) {
    fputs(frame->lines > 0 ? "\033[K\n" : "\n", frame->out);
    frame->written++;
}

static uint64_t per_second(const struct frame *frame, uint64_t before, uint64_t now) {
    double seconds = frame->now.at_seconds - frame->before.at_seconds;
    return seconds > 0 && now > before ? (uint64_t)((double)(now - before) / seconds + 0.5) : 0;
}

static void write_bar(const struct frame *frame, uint64_t part, uint64_t whole) {
    int filled = whole > 0 ? (int)((double)part / (double)whole * BAR_COLUMNS + 0.5) : 0;
    for (int i = 0; i < BAR_COLUMNS; i++)
        fputc(i < filled ? '#' : '.', frame->out);
}

static double percent(uint64_t part, uint64_t whole) {
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

static void write_totals(struct frame *frame) {
    const struct kvq_stats *stats = frame->stats;
    char a[WORD_BYTES], b[WORD_BYTES];
    fprintf(frame->out, "kvquantd %s, up %s, %s", stats->version,
            seconds_text(stats->uptime_seconds, a), state_name(stats->state));
    end_line(frame);
    fputs("memory    ", frame->out);
    write_bar(frame, stats->used_bytes, stats->limit_bytes);
    fprintf(frame->out, " %s, %.1f %% of %s", bytes_text(stats->used_bytes, a),
            percent(stats->used_bytes, stats->limit_bytes), bytes_text(stats->limit_bytes, b));
    end_line(frame);
    fprintf(frame->out, "sessions  %s with %s tokens", count_text(stats->sessions, a),
            count_text(stats->tokens, b));
    fprintf(frame->out, "; %s stored, ratio %s", bytes_text(stats->stored_bytes, a),
            figure_text(stats_ratio(stats, stats->logical_bytes), 2, "", b));
    end_line(frame);
}

static void write_flow(struct frame *frame) {
    const struct counters *before = &frame->before, *now = &frame->now;
    char a[WORD_BYTES], b[WORD_BYTES];
    fprintf(frame->out, "appended  %s/s, %s tokens/s",
            bytes_text(per_second(frame, before->appended_bytes, now->appended_bytes), a),
            count_text(per_second(frame, before->appended_tokens, now->appended_tokens), b));
    end_line(frame);
    fprintf(frame->out, "fetched   %s/s, %s tokens/s",
            bytes_text(per_second(frame, before->fetched_bytes, now->fetched_bytes), a),
            count_text(per_second(frame, before->fetched_tokens, now->fetched_tokens), b));
    end_line(frame);
    uint64_t hits = now->hits - before->hits, misses = now->misses - before->misses;
    fprintf(frame->out, "hits      %s now, %s since the start; %s tokens/s evicted",
            figure_text(hits + misses > 0 ? percent(hits, hits + misses) : NAN, 1, " %", a),
            figure_text(100 * stats_hit_share(frame->stats), 1, " %", b),
            count_text(per_second(frame, before->evicted_tokens, now->evicted_tokens),
                       (char[WORD_BYTES]){0}));
    end_line(frame);
}

static const char *place_name(const struct kvq_level_info *level) {
    return level->place == KVQ_PLACE_SINKS  ? "sinks"
           : level->place == KVQ_PLACE_TAIL ? "tails"
                                            : level_name(level->level);
}

static void write_levels(struct frame *frame) {
    const struct kvq_stats *stats = frame->stats;
    char tokens[WORD_BYTES], bytes[WORD_BYTES];
    uint64_t all = 0;
    for (size_t i = 0; i < stats->level_count; i++)
        all += stats->levels[i].bytes;
    end_line(frame);
    fprintf(frame->out, "%-9s %12s %11s", "LEVEL", "TOKENS", "BYTES");
    end_line(frame);
    for (size_t i = 0; i < stats->level_count; i++) {
        const struct kvq_level_info *level = &stats->levels[i];
        fprintf(frame->out, "%-9s %12s %11s  ", place_name(level),
                count_text(level->tokens, tokens), bytes_text(level->bytes, bytes));
        write_bar(frame, level->bytes, all);
        end_line(frame);
    }
}

static void write_operations(struct frame *frame) {
    const struct kvq_stats *stats = frame->stats;
    char rate[WORD_BYTES], mean[WORD_BYTES], errors[WORD_BYTES];
    end_line(frame);
    fprintf(frame->out, "%-13s %10s %10s %10s", "OPERATION", "A SECOND", "MEAN", "FAILED");
    end_line(frame);
    for (size_t i = 0; i < stats->operation_count && i < OPERATIONS_MOST; i++) {
        uint64_t requests =
            frame->now.operations[i].requests - frame->before.operations[i].requests;
        uint64_t us = frame->now.operations[i].total_us - frame->before.operations[i].total_us;
        if (requests == 0)
            continue;
        fprintf(frame->out, "%-13s %10s %10s %10s", stats->operations[i].operation,
                figure_text((double)requests / (frame->now.at_seconds - frame->before.at_seconds),
                            1, "", rate),
                microseconds_text((double)us / (double)requests, mean),
                count_text(frame->now.operations[i].errors - frame->before.operations[i].errors,
                           errors));
        end_line(frame);
    }
}

/* The largest, as many as there is room for. */
static void write_sessions(struct frame *frame, const struct session_list *list) {
    size_t room = SESSIONS_DEFAULT;
    if (frame->lines > 0)
        room = frame->lines > frame->written + 3 ? (size_t)(frame->lines - frame->written - 3) : 0;
    char tokens[WORD_BYTES], stored[WORD_BYTES], ratio[WORD_BYTES], idle[WORD_BYTES];
    end_line(frame);
    fprintf(frame->out, "%10s %10s %6s %-5s %5s  %s", "TOKENS", "STORED", "RATIO", "LEVEL", "IDLE",
            "SESSION");
    end_line(frame);
    for (size_t i = 0; i < list->count && i < room; i++) {
        const struct kvq_session_info *info = &list->rows[i];
        fprintf(frame->out, "%10s %10s %6s %-5s %5s  %s",
                count_text(info->tokens_available, tokens), bytes_text(info->stored_bytes, stored),
                figure_text(info->ratio_input, 2, "", ratio), level_name(info->level),
                short_time_text(info->idle_ms, idle), info->session);
        end_line(frame);
    }
}

static void write_frame(struct frame *frame, const struct session_list *list) {
    if (frame->lines > 0)
        fputs("\033[?7l\033[H", frame->out); /* lines that are too long are cut */
    write_totals(frame);
    write_flow(frame);
    write_levels(frame);
    write_operations(frame);
    write_sessions(frame, list);
    if (frame->lines > 0)
        fputs("\033[J\033[?7h", frame->out);
    fflush(frame->out);
}

/* Of the terminal; 0: the output is none. */
static int screen_lines(void) {
    struct winsize size;
    if (!isatty(STDOUT_FILENO))
        return 0;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

/* Returns the failed call's error. */
static int show(struct kvq_client *client, struct counters *counters) {
    struct session_list list = {0};
    struct kvq_stats stats;
    int error = session_list_load(&list, client, false);
    if (!error)
        error = kvq_stats(client, &stats);
    if (!error) {
        struct frame frame = {.out = stdout,
                              .stats = &stats,
                              .before = *counters,
                              .now = read_counters(&stats),
                              .lines = screen_lines()};
        session_list_sort(&list, SORT_SIZE);
        write_frame(&frame, &list);
        *counters = frame.now;
    }
    session_list_free(&list);
    return error;
}

static enum exit_status run(const struct options *options) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    uint64_t seconds = options->given & OPTION_SECONDS ? options->seconds : SECONDS_DEFAULT;
    bool on_screen = screen_lines() > 0;
    struct kvq_stats stats;
    int error = kvq_stats(client, &stats);
    struct counters counters = error ? (struct counters){0} : read_counters(&stats);
    if (on_screen)
        fputs("\033[2J", stdout);
    do {
        if (!error)
            nanosleep(&(struct timespec){.tv_sec = (time_t)seconds}, NULL);
        if (!error)
            error = show(client, &counters);
    } while (!error && on_screen);
    return error ? report_failure(client, error) : EXIT_DONE;
}

const struct command top_command = {
    .name = "top",
    .arguments = "",
    .options = OPTIONS_DAEMON | OPTION_SECONDS,
    .summary = "show what the daemon does, again and again",
    .help = "Shows, every --seconds, what the daemon holds and what it did since it was last "
            "shown: memory, bytes and tokens that came and went, fetches that hit, tokens that "
            "were evicted, levels, operations with how often a second they were asked for and how "
            "long they took, and the largest sessions. Ctrl-C ends it. Where the output is no "
            "terminal it is shown once.",
    .run = run,
};
