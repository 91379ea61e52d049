/* What has been measured of a profile, as JSON and for people. */
#include "client/cli/help.h"
#include "client/cli/json.h"
#include "client/cli/model_values.h"
#include "client/cli/profile.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

#include <stddef.h>

static const struct part_row {
    const char *name, *words;
    size_t offset;
} part_rows[] = {
    {"header", "headers, and which tokens are exact", offsetof(struct page_parts, header)},
    {"exact_tokens", "exact tokens", offsetof(struct page_parts, exact_tokens)},
    {"stream_header", "states of the entropy coder", offsetof(struct page_parts, stream_header)},
    {"scales", "scales", offsetof(struct page_parts, scales)},
    {"means", "means of channels", offsetof(struct page_parts, means)},
    {"classes", "classes of channels", offsetof(struct page_parts, classes)},
    {"symbols", "values, entropy coded", offsetof(struct page_parts, symbols)},
    {"planes", "values, plain bits", offsetof(struct page_parts, planes)},
    {"escapes", "values out of range", offsetof(struct page_parts, escapes)},
};
enum { PART_ROWS = sizeof part_rows / sizeof *part_rows };

static uint64_t part_bytes(const struct page_parts *parts, const struct part_row *row) {
    return *(const size_t *)((const char *)parts + row->offset);
}

/* ---- JSON ---- */

static void profile_json(struct json *json, const struct profile *profile) {
    json_string(json, "name", profile->name);
    json_open_array(json, "shape");
    json_count(json, NULL, 1);
    json_count(json, NULL, profile->heads);
    json_count(json, NULL, profile->tokens);
    json_count(json, NULL, profile->head_dim);
    json_close_array(json);
    json_count(json, "layers", profile->layers);
    json_string(json, "dtype", "float16");
    json_count(json, "sink_tokens", profile->sink_tokens);
    json_open_array(json, "ages");
    for (int i = 0; i < profile->age_count; i++) {
        json_open_object(json, NULL);
        json_count(json, "tokens", profile->ages[i].tokens);
        show_level_json(json, "level", profile->ages[i].level);
        json_close_object(json);
    }
    json_close_array(json);
    json_real(json, "target_ratio", profile->target_ratio);
}

static void decoder_limits_json(struct json *json, const struct profile *profile) {
    json_open_object(json, "decoder");
    json_count(json, "ram_bytes", profile->ram_bytes_max);
    json_count(json, "stack_bytes", profile->stack_bytes_max);
    json_open_object(json, "stack_needed_bytes");
    for (int i = 0; i < profile->processor_count; i++)
        json_count(json, profile->processors[i].name, profile->processors[i].stack_bytes);
    json_close_object(json);
    json_close_object(json);
}

static void figures_json(struct json *json, const struct profile_part *part) {
    json_count(json, "stored_bytes", part->stored_bytes);
    json_real(json, "bits_per_value", profile_bits_per_value(part));
    json_real(json, "snr_k_db", profile_snr_db(part, 0));
    json_real(json, "snr_v_db", profile_snr_db(part, 1));
    json_open_object(json, "parts");
    for (int i = 0; i < PART_ROWS; i++)
        json_count(json, part_rows[i].name, part_bytes(&part->parts, &part_rows[i]));
    json_close_object(json);
}

static void ages_json(struct json *json, const struct profile_report *report) {
    uint64_t first = 0;
    json_open_array(json, "ages");
    for (int i = 0; i < report->profile->age_count; i++) {
        const struct profile_age *age = &report->profile->ages[i];
        json_open_object(json, NULL);
        json_count(json, "first", first);
        json_count(json, "tokens", age->tokens);
        show_level_json(json, "level", age->level);
        json_count(json, "pages", report->ages[i].pages);
        figures_json(json, &report->ages[i]);
        json_close_object(json);
        first += age->tokens;
    }
    json_close_array(json);
}

static void decoder_json(struct json *json, const struct profile_report *report) {
    json_open_object(json, "decoder");
    json_count(json, "workspace_bytes", report->workspace_bytes);
    json_count(json, "output_bytes", report->output_bytes);
    json_count(json, "ram_bytes", report->workspace_bytes + report->output_bytes);
    json_bool(json, "within_limits", profile_is_within_limits(report));
    json_close_object(json);
}

static bool is_target_met(const struct profile_report *report) {
    return profile_ratio(&report->whole) >= report->profile->target_ratio;
}

void profile_print_json(const struct profile_report *report) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    profile_json(&json, report->profile);
    decoder_limits_json(&json, report->profile);
    json_open_object(&json, "measured");
    json_string(&json, "generator", MODEL_VALUES_TEXT);
    json_count(&json, "seed", report->seed);
    json_count(&json, "logical_bytes", report->whole.values * sizeof(uint16_t));
    json_real(&json, "ratio", profile_ratio(&report->whole));
    json_bool(&json, "target_met", is_target_met(report));
    figures_json(&json, &report->whole);
    ages_json(&json, report);
    decoder_json(&json, report);
    json_close_object(&json);
    json_close_object(&json);
    json_end(&json);
}

/* ---- for people ---- */

static void print_figures(const char *tokens, const char *level, const struct profile_part *part) {
    char bytes[WORD_BYTES], snr_k[WORD_BYTES], snr_v[WORD_BYTES];
    printf("%-12s %6s %9s %11.2f %7.2f %6s %6s\n", tokens, level,
           count_text(part->stored_bytes, bytes), profile_bits_per_value(part), profile_ratio(part),
           figure_text(profile_snr_db(part, 0), 1, "", snr_k),
           figure_text(profile_snr_db(part, 1), 1, "", snr_v));
}

static void print_ages(const struct profile_report *report) {
    char tokens[2 * WORD_BYTES];
    uint64_t first = 0;
    printf("\n%-12s %6s %9s %11s %7s %6s %6s\n", "tokens", "level", "bytes", "bits/value", "ratio",
           "dB K", "dB V");
    for (int i = 0; i < report->profile->age_count; i++) {
        const struct profile_age *age = &report->profile->ages[i];
        uint64_t end = first + age->tokens;
        snprintf(tokens, sizeof tokens, "%llu:%llu", (unsigned long long)first,
                 (unsigned long long)end);
        print_figures(tokens, level_name(age->level), &report->ages[i]);
        first = end;
    }
    print_figures("all", "", &report->whole);
}

static void print_parts(const struct profile_part *part) {
    char bytes[WORD_BYTES];
    printf("\n%-35s %9s %6s\n", "of these", "bytes", "%");
    for (int i = 0; i < PART_ROWS; i++) {
        uint64_t count = part_bytes(&part->parts, &part_rows[i]);
        printf("%-35s %9s %6.1f\n", part_rows[i].words, count_text(count, bytes),
               100 * (double)count / (double)part->stored_bytes);
    }
}

static void print_decoder(const struct profile_report *report) {
    const struct profile *profile = report->profile;
    char ram[WORD_BYTES], limit[WORD_BYTES], workspace[WORD_BYTES], output[WORD_BYTES];
    printf("decoder     RAM %s of %s bytes (workspace %s, values %s)\n",
           count_text(report->workspace_bytes + report->output_bytes, ram),
           count_text(profile->ram_bytes_max, limit),
           count_text(report->workspace_bytes, workspace),
           count_text(report->output_bytes, output));
    printf("            stack");
    for (int i = 0; i < profile->processor_count; i++)
        printf("%s %s on %s", i > 0 ? "," : "", count_text(profile->processors[i].stack_bytes, ram),
               profile->processors[i].name);
    printf("%s of %s bytes\n", profile->processor_count > 0 ? "" : " at most",
           count_text(profile->stack_bytes_max, limit));
    if (!profile_is_within_limits(report))
        puts("            more than the profile allows");
}

void profile_print_text(const struct profile_report *report) {
    const struct profile *profile = report->profile;
    printf("%s: K and V of (1,%u,%llu,%u), %u layer%s, float16; %u first tokens exact\n",
           profile->name, profile->heads, (unsigned long long)profile->tokens, profile->head_dim,
           profile->layers, profile->layers == 1 ? "" : "s", profile->sink_tokens);
    print_ages(report);
    print_parts(&report->whole);
    printf("\nratio       %.2f against 16 bits a value, every byte counted; target %.2f: %s\n",
           profile_ratio(&report->whole), profile->target_ratio,
           is_target_met(report) ? "met" : "not met");
    print_decoder(report);
    printf("seed        %llu\n\n", (unsigned long long)report->seed);
    print_wrapped(stdout, 0, MODEL_VALUES_TEXT);
}
