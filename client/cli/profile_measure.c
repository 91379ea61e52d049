/* What drawn values take, coded as a profile says: the codec alone, without a daemon. */
#include "client/cli/profile.h"

#include "client/cli/bench.h"
#include "client/cli/command.h"
#include "proto/page/page.h"

#include <math.h>
#include <stdlib.h>

enum { PAGE_ALIGNMENT = 64 };

struct measuring {
    const struct profile *profile;
    struct profile_report *report;
    struct bench_values values;
    void *workspace, *page;
    size_t page_bytes_max;
};

static void add_parts(struct page_parts *sum, const struct page_parts *parts) {
    sum->header += parts->header;
    sum->exact_tokens += parts->exact_tokens;
    sum->stream_header += parts->stream_header;
    sum->scales += parts->scales;
    sum->means += parts->means;
    sum->classes += parts->classes;
    sum->symbols += parts->symbols;
    sum->planes += parts->planes;
    sum->escapes += parts->escapes;
}

static void add(struct profile_part *sum, const struct profile_part *part) {
    sum->values += part->values;
    sum->pages += part->pages;
    sum->stored_bytes += part->stored_bytes;
    for (int kv = 0; kv < 2; kv++) {
        sum->error[kv] += part->error[kv];
        sum->energy[kv] += part->energy[kv];
    }
    add_parts(&sum->parts, &part->parts);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static void note_needs(struct profile_report *report, const struct page_shape *shape) {
    report->workspace_bytes = larger(report->workspace_bytes, page_decode_workspace_bytes(shape));
    uint64_t values = (uint64_t)shape->tokens * shape->heads * shape->head_dim;
    report->output_bytes = larger(report->output_bytes, values * page_value_bytes(shape->dtype));
}

static bool measure_page(struct measuring *measuring, const struct page_source *source,
                         struct profile_part *sum) {
    size_t written;
    struct page_info info;
    struct profile_part page = {.pages = 1};
    if (page_encode(source, measuring->workspace, measuring->page, measuring->page_bytes_max,
                    &written, &info) != PAGE_OK ||
        page_parts(measuring->page, written, measuring->workspace, &page.parts) != PAGE_OK)
        return false;
    page.values = (uint64_t)source->shape.tokens * source->shape.heads * source->shape.head_dim;
    page.stored_bytes = written;
    page.error[source->part] = info.loss.error;
    page.energy[source->part] = info.loss.energy;
    note_needs(measuring->report, &source->shape);
    add(sum, &page);
    return true;
}

/* K or V of a layer, of the tokens of an age. */
static bool measure_age(struct measuring *measuring, enum page_part part, uint32_t layer,
                        uint64_t first, const struct profile_age *age, struct profile_part *sum) {
    const struct profile *profile = measuring->profile;
    size_t channels = (size_t)profile->heads * profile->head_dim;
    uint32_t most = page_tokens(profile->heads, profile->head_dim, profile->head_dim), tokens;
    const uint16_t *drawn = part == PAGE_K ? measuring->values.k : measuring->values.v;
    drawn += layer * profile->tokens * channels;
    for (uint64_t t = first; t < first + age->tokens; t += tokens) {
        uint64_t left = first + age->tokens - t, sinks = t == 0 ? profile->sink_tokens : 0;
        tokens = left < most ? (uint32_t)left : most;
        struct page_source source = {
            .shape = {tokens, profile->heads, profile->head_dim, PAGE_F16},
            .part = part,
            .level = age->level,
            .sink_tokens = sinks < tokens ? (uint32_t)sinks : tokens,
            .values = drawn + t * channels,
            .strides = {.token = channels, .head = profile->head_dim},
            .layer = layer,
            .layers = profile->layers,
        };
        if (!measure_page(measuring, &source, sum))
            return false;
    }
    return true;
}

static bool measure_all(struct measuring *measuring) {
    const struct profile *profile = measuring->profile;
    struct profile_report *report = measuring->report;
    uint64_t first = 0;
    for (int i = 0; i < profile->age_count; i++) {
        const struct profile_age *age = &profile->ages[i];
        for (uint32_t layer = 0; layer < profile->layers; layer++)
            for (int part = PAGE_K; part <= PAGE_V; part++)
                if (!measure_age(measuring, (enum page_part)part, layer, first, age,
                                 &report->ages[i]))
                    return false;
        add(&report->whole, &report->ages[i]);
        first += age->tokens;
    }
    return true;
}

static bool take_memory(struct measuring *measuring) {
    struct page_shape largest = {PAGE_TOKENS_MAX, 1, PAGE_VALUES_MAX / PAGE_TOKENS_MAX, PAGE_F16};
    measuring->page_bytes_max = page_bound_bytes(&largest);
    measuring->workspace = aligned_alloc(PAGE_ALIGNMENT, PAGE_WORKSPACE_BYTES);
    measuring->page = malloc(measuring->page_bytes_max);
    if (!measuring->workspace || !measuring->page)
        complain("no memory to code pages");
    return measuring->workspace && measuring->page;
}

bool profile_measure(const struct profile *profile, uint64_t seed, struct profile_report *report) {
    struct measuring measuring = {
        .profile = profile,
        .report = report,
        .values = {.geometry = {.layers = profile->layers,
                                .heads = profile->heads,
                                .head_dim_k = profile->head_dim,
                                .head_dim_v = profile->head_dim,
                                .dtype = KVQ_F16},
                   .tokens = profile->tokens},
    };
    *report = (struct profile_report){.profile = profile, .seed = seed};
    bool done = bench_values_draw(&measuring.values, seed) && take_memory(&measuring);
    if (done && !measure_all(&measuring)) {
        complain("the values could not be coded");
        done = false;
    }
    free(measuring.workspace);
    free(measuring.page);
    bench_values_free(&measuring.values);
    return done;
}

double profile_ratio(const struct profile_part *part) {
    return (double)(part->values * sizeof(uint16_t)) / (double)part->stored_bytes;
}

double profile_bits_per_value(const struct profile_part *part) {
    return 8 * (double)part->stored_bytes / (double)part->values;
}

double profile_snr_db(const struct profile_part *part, int kv) {
    return part->error[kv] > 0 ? 10 * log10(part->energy[kv] / part->error[kv]) : (double)NAN;
}

bool profile_is_within_limits(const struct profile_report *report) {
    const struct profile *profile = report->profile;
    bool within = report->workspace_bytes + report->output_bytes <= profile->ram_bytes_max;
    for (int i = 0; i < profile->processor_count; i++)
        within = within && profile->processors[i].stack_bytes <= profile->stack_bytes_max;
    return within;
}
