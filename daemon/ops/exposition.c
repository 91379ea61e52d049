#include "daemon/ops/exposition.h"

#include <string.h>

static const char *const type_names[] = {"gauge", "counter", "histogram", "info"};
static const char *const units[] = {"bytes", "seconds", "ratio", "decibels"};

static const char *unit_of(const char *family) {
    const char *last = strrchr(family, '_');
    for (size_t i = 0; last && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(last + 1, units[i]) == 0)
            return units[i];
    return NULL;
}

static const char *suffix_of(enum exposition_type type) {
    return type == EXPOSITION_COUNTER ? "_total" : type == EXPOSITION_INFO ? "_info" : "";
}

void exposition_begin(struct exposition *exposition, const char *family, enum exposition_type type,
                      const char *help) {
    const char *suffix = exposition->open_metrics ? "" : suffix_of(type);
    bool is_plain_info = type == EXPOSITION_INFO && !exposition->open_metrics;
    const char *type_name = type_names[is_plain_info ? EXPOSITION_GAUGE : type];
    const char *unit = unit_of(family);
    exposition->family = family;
    exposition->type = type;
    fprintf(exposition->out, "# TYPE %s%s %s\n", family, suffix, type_name);
    if (exposition->open_metrics && unit)
        fprintf(exposition->out, "# UNIT %s %s\n", family, unit);
    fprintf(exposition->out, "# HELP %s%s %s\n", family, suffix, help);
}

static void add(const struct exposition *exposition, const char *suffix, const char *labels,
                double value) {
    fprintf(exposition->out, "%s%s%s%s%s %.17g\n", exposition->family, suffix, labels[0] ? "{" : "",
            labels, labels[0] ? "}" : "", value);
}

void exposition_add(struct exposition *exposition, const char *labels, double value) {
    add(exposition, suffix_of(exposition->type), labels, value);
}

void exposition_sum_add(struct exposition_sum *sum, const struct histogram *histogram) {
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        sum->counts[i] += count;
        sum->count += count;
    }
    sum->sum += atomic_load_explicit(&histogram->sum, memory_order_relaxed);
}

void exposition_add_histogram(struct exposition *exposition, const char *labels,
                              const struct exposition_sum *sum,
                              const struct histogram_scale *scale) {
    const char *comma = labels[0] ? "," : "";
    uint64_t below = 0;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        char bound[32];
        below += sum->counts[i];
        snprintf(bound, sizeof bound, "%g", (double)scale->bounds[i] * scale->unit);
        bool is_whole = exposition->open_metrics && !strpbrk(bound, ".e"); /* 1 is 1.0 there */
        fprintf(exposition->out, "%s_bucket{%s%sle=\"%s%s\"} %llu\n", exposition->family, labels,
                comma, bound, is_whole ? ".0" : "", (unsigned long long)below);
    }
    fprintf(exposition->out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", exposition->family, labels, comma,
            (unsigned long long)sum->count);
    add(exposition, "_count", labels, (double)sum->count);
    add(exposition, "_sum", labels, (double)sum->sum * scale->unit);
}

void exposition_end(struct exposition *exposition) {
    if (exposition->open_metrics)
        fputs("# EOF\n", exposition->out);
}
