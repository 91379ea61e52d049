/* A head of a summary, from its blocks' means. */
#include "proto/page/portable_numbers.h"
#include "proto/page/workspace.h"

enum { CENTRE_MAX = 127, STEP_MAX = 255, QUAD = 4 };

static void find_centres(const struct page_summary_job *job, float *restrict centre) {
    float share = 1 / (float)job->layout->blocks;
    for (size_t c = 0; c < job->channels; c++)
        centre[c] = 0;
    for (size_t b = 0; b < job->layout->blocks; b++) {
        const float *restrict row = job->means + b * job->apart;
        for (size_t c = 0; c < job->channels; c++)
            centre[c] += row[c];
    }
    for (size_t c = 0; c < job->channels; c++)
        centre[c] *= share;
}

/* Squares of what the blocks are away from their centre, added up. */
static void find_squares(const struct page_summary_job *job, const float *restrict centre,
                         float *restrict squares) {
    for (size_t c = 0; c < job->channels; c++)
        squares[c] = 0;
    for (size_t b = 0; b < job->layout->blocks; b++) {
        const float *restrict row = job->means + b * job->apart;
        for (size_t c = 0; c < job->channels; c++) {
            float away = row[c] - centre[c];
            squares[c] += away * away;
        }
    }
}

/* Neighbours that share a step have the mean of theirs. */
static void share_squares(const struct page_summary_job *job, float *squares) {
    size_t sharing = job->layout->sharing;
    for (size_t first = 0; sharing > 1 && first < job->channels; first += sharing) {
        size_t end = first + sharing < job->channels ? first + sharing : job->channels;
        float sum = 0;
        for (size_t c = first; c < end; c++)
            sum += squares[c];
        for (size_t c = first; c < end; c++)
            squares[c] = sum / (float)(end - first);
    }
}

static void find_steps(const struct page_summary_job *job, float *restrict squares_to_steps) {
    float share = 1 / (float)job->layout->blocks;
    for (size_t c = 0; c < job->channels; c++)
        squares_to_steps[c] = 0.6f * __builtin_sqrtf(squares_to_steps[c] * share);
}

/* Of floats that are not negative integers order as they do. */
static float largest_magnitude(const float *values, size_t count) {
    int32_t largest = 0;
    for (size_t c = 0; c < count; c++) {
        int32_t bits = (int32_t)(float_bits(values[c]) & 0x7fffffff);
        largest = bits > largest ? bits : largest;
    }
    return bits_float((uint32_t)largest);
}

static float inverse_of(float x) {
    return x >= 0x1p-100f ? 1 / x : 0;
}

/* They become what their codes stand for. */
static void code_centres(struct page_summary_job *job) {
    float scale = largest_magnitude(job->centre, job->channels) / CENTRE_MAX;
    float inverse = inverse_of(scale), *restrict centre = job->centre;
    int8_t *restrict codes = job->centres;
    for (size_t c = 0; c < job->channels; c++) {
        int32_t code = nearest(centre[c] * inverse);
        codes[c] = (int8_t)code;
        centre[c] = (float)code * scale;
    }
    job->scales[0] = scale;
}

static void code_steps(struct page_summary_job *job) {
    float scale = largest_magnitude(job->step, job->channels) / STEP_MAX;
    float inverse = inverse_of(scale), *restrict step = job->step, *restrict one_by = job->inverse;
    for (size_t c = 0; c < job->channels; c++) {
        int32_t code = nearest(step[c] * inverse);
        code = code > 0 ? code : 1;
        step[c] = (float)code;
        one_by[c] = inverse / (float)code;
    }
    for (size_t c = 0; c < job->channels; c += job->layout->sharing)
        job->steps[c / job->layout->sharing] = (uint8_t)(int32_t)step[c];
    job->scales[1] = inverse > 0 ? scale : 0;
}

static void code_block(const struct page_summary_job *job, size_t block) {
    const float *restrict means = job->means + block * job->apart;
    const float *restrict centre = job->centre, *restrict inverse = job->inverse;
    uint8_t *restrict row = job->row;
    for (size_t c = 0; c < job->channels; c++) {
        float place = (means[c] - centre[c]) * inverse[c] + 4;
        place = place > 0 ? place : 0;
        place = place < SUMMARY_CODE_MAX ? place : SUMMARY_CODE_MAX;
        row[c] = (uint8_t)(int32_t)place;
    }
    uint8_t *to =
        job->codes + block / SUMMARY_LANES * SUMMARY_VECTOR_BYTES + block % SUMMARY_LANES * QUAD;
    size_t apart = (size_t)job->layout->groups * SUMMARY_VECTOR_BYTES;
    for (size_t c = 0; c < job->channels; c += QUAD, to += apart)
        memcpy(to, job->row + c, QUAD);
}

static void pack(const uint8_t *restrict codes, uint8_t *restrict unit) {
    enum { BYTES = SUMMARY_VECTOR_BYTES };
    for (size_t i = 0; i < BYTES; i++) {
        uint8_t g = codes[6 * BYTES + i], h = codes[7 * BYTES + i];
        unit[i] = (uint8_t)(codes[i] | codes[BYTES + i] << 3 | g << 6);
        unit[BYTES + i] = (uint8_t)(codes[2 * BYTES + i] | codes[3 * BYTES + i] << 3 |
                                    (g & 4) << 4 | (h & 4) << 5);
        unit[2 * BYTES + i] = (uint8_t)(codes[4 * BYTES + i] | codes[5 * BYTES + i] << 3 | h << 6);
    }
}

void PAGE_OF_TARGET(summarise_)(struct page_summary_job *job) {
    find_centres(job, job->centre);
    find_squares(job, job->centre, job->step);
    share_squares(job, job->step);
    find_steps(job, job->step);
    code_centres(job);
    code_steps(job);
    for (size_t block = 0; block < job->layout->blocks; block++)
        code_block(job, block);
    for (size_t unit = 0; unit < job->layout->vectors / SUMMARY_UNIT_VECTORS; unit++)
        pack(job->codes + unit * SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES,
             job->units + unit * SUMMARY_UNIT_BYTES);
}
