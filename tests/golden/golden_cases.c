#include "tests/golden/golden_cases.h"

#include "tests/fuzz/must.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum {
    LEVELS = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1,
    DTYPES = PAGE_F32,
    COMPACT = PAGE_Q4_0 - DTYPES,
    ROOM = PAGE_VALUES_MAX * 4,
    PAGE_ROOM = 2 * ROOM,
};

static const struct page_shape line_shapes[] = {
    {1, 1, 1, 0},     {2, 1, 64, 0},   {64, 3, 40, 0},  {127, 5, 17, 0},
    {128, 8, 128, 0}, {3, 1, 1000, 0}, {128, 1, 96, 0}, {65, 2, 80, 0},
    {33, 1, 576, 0},  {100, 1, 31, 0}, {128, 3, 64, 0},
};
static const struct page_shape page_shapes[] = {{5, 2, 7, 0}, {70, 1, 9, 0}};
static const struct page_shape odd_shape = {20, 1, 96, 0}, compact_shape = {21, 1, 96, 0};
enum {
    LINE_SHAPES = sizeof line_shapes / sizeof *line_shapes,
    PAGE_SHAPES = sizeof page_shapes / sizeof *page_shapes,
    LINES = LEVELS * DTYPES * LINE_SHAPES,
};
static const char *const level_names[LEVELS] = {"exact",  "fast8",  "level0", "level1",
                                                "level2", "level3", "level4", "level5"};
static const char *const dtype_names[] = {"",     "f16",  "bf16", "f32", "e4m3",
                                          "e5m2", "int8", "q8_0", "q4_0"};

static void *room(size_t bytes) {
    void *memory = aligned_alloc(64, bytes);
    must(memory != NULL, "there is memory");
    return memset(memory, 0, bytes);
}

struct golden_work golden_work_new(void) {
    return (struct golden_work){.values = room(ROOM),
                                .decoded = room(ROOM),
                                .page = room(PAGE_ROOM),
                                .aged = room(PAGE_ROOM),
                                .workspace = room(PAGE_WORKSPACE_BYTES)};
}

void golden_work_free(struct golden_work *work) {
    free(work->values);
    free(work->decoded);
    free(work->page);
    free(work->aged);
    free(work->workspace);
}

/* ---- values ---- */

static uint64_t next_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A sum of uniforms: about normal, and exact in float32. */
static float nearly_normal(uint64_t *state) {
    int32_t sum = 0;
    for (int i = 0; i < 6; i++)
        sum += (int32_t)(next_random(state) >> 48) - (1 << 15);
    return (float)sum * 0x1p-15f;
}

/* Cut, not rounded: no arithmetic of the machine's is in it. */
static uint16_t half_of(uint32_t bits) {
    int exponent = (int)(bits >> 23 & 255) - 112;
    uint32_t sign = bits >> 16 & 0x8000;
    if (exponent <= 0)
        return (uint16_t)sign;
    return (uint16_t)(sign |
                      (exponent < 31 ? (uint32_t)exponent << 10 | (bits >> 13 & 1023) : 0x7bffu));
}

static uint8_t e4m3_of(uint32_t bits) {
    int exponent = (int)(bits >> 23 & 255) - 120;
    uint32_t sign = bits >> 24 & 0x80;
    if (exponent <= 0)
        return (uint8_t)sign;
    uint32_t magnitude = (uint32_t)exponent << 3 | (bits >> 20 & 7);
    return (uint8_t)(sign | (magnitude < 0x7f ? magnitude : 0x7e));
}

static int within(float x, int least, int most) {
    int whole = (int)x;
    return whole < least ? least : whole > most ? most : whole;
}

/* A block's scale, of two kinds by turns, and one of its integers. */
static void set_in_block(enum page_dtype dtype, uint8_t *bytes, size_t i, float x) {
    bool wide = dtype == PAGE_Q8_0;
    uint8_t *block = bytes + i / 32 * (wide ? 34 : 18), *q = block + 2;
    block[0] = 0, block[1] = (uint8_t)((wide ? 0x2c : 0x3c) + i / 32 % 2);
    if (wide) {
        q[i % 32] = (uint8_t)within(16 * x, -127, 127);
        return;
    }
    unsigned shift = i % 32 < 16 ? 0 : 4, nibble = (unsigned)(within(x, -8, 7) + 8);
    q[i % 16] = (uint8_t)((q[i % 16] & ~(15u << shift)) | nibble << shift);
}

static void set_compact(enum page_dtype dtype, uint8_t *bytes, size_t i, float x, uint32_t bits) {
    if (dtype == PAGE_F8E4M3)
        bytes[i] = e4m3_of(bits);
    else if (dtype == PAGE_F8E5M2)
        bytes[i] = (uint8_t)(half_of(bits) >> 8);
    else if (dtype == PAGE_I8)
        bytes[i] = (uint8_t)within(16 * x, -127, 127);
    else
        set_in_block(dtype, bytes, i, x);
}

static void set_value(enum page_dtype dtype, void *values, size_t i, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (dtype > PAGE_F32)
        set_compact(dtype, values, i, x, bits);
    else if (dtype == PAGE_F32)
        ((uint32_t *)values)[i] = bits;
    else
        ((uint16_t *)values)[i] = dtype == PAGE_F16 ? half_of(bits) : (uint16_t)(bits >> 16);
}

/* What is unusual in a page; the frozen lines have none of it. */
enum oddity { NONE, FAR_TOKEN, FAR_CHANNEL, ALL_EQUAL, ALL_ZERO, NOT_NUMBERS, ODDITIES };
static const char *const oddity_names[ODDITIES] = {"",           "-far-token", "-far-channel",
                                                   "-all-equal", "-all-zero",  "-not-numbers"};

/* Channels with means and sizes of their own, some tokens larger. */
static float value_of(size_t t, size_t c, enum oddity oddity, uint64_t *state) {
    float size = (float)(1 << c % 5) * (t % 9 == 8 ? 4.0f : 1.0f) * 0.125f;
    float x = (float)(c % 7) - 3 + size * nearly_normal(state);
    if (oddity == FAR_TOKEN)
        return t == 7 ? 1000 * x : x;
    if (oddity == FAR_CHANNEL)
        return c == 3 ? 256 * x : x;
    if (oddity == ALL_EQUAL)
        return -1.75f;
    return oddity == ALL_ZERO ? 0 : x;
}

static void fill(void *values, const struct page_shape *shape, enum oddity oddity) {
    size_t channels = (size_t)shape->heads * shape->head_dim;
    uint64_t state = channels * 131 + shape->tokens;
    for (size_t i = 0; i < shape->tokens * channels; i++)
        set_value(shape->dtype, values, i, value_of(i / channels, i % channels, oddity, &state));
    for (size_t i = 0; oddity == NOT_NUMBERS && i < shape->tokens * channels; i++)
        if (i % 2 == 0) /* any bits, infinities and NaN among them */
            memset((uint8_t *)values + i * page_value_bytes(shape->dtype), (int)(i * 89 & 255),
                   page_value_bytes(shape->dtype));
}

/* ---- pages ---- */

static struct page_strides strides_of(const struct page_shape *shape) {
    return (struct page_strides){.token = (size_t)shape->heads * shape->head_dim,
                                 .head = shape->head_dim};
}

static struct page_source source_of(struct golden_work *work, const struct page_shape *shape,
                                    enum page_part part, int level, uint32_t sinks) {
    return (struct page_source){.shape = *shape,
                                .part = part,
                                .level = level,
                                .sink_tokens = sinks,
                                .values = work->values,
                                .strides = strides_of(shape)};
}

static size_t encode(struct golden_work *work, const struct page_shape *shape, enum page_part part,
                     int level, uint32_t sinks) {
    size_t written = 0;
    struct page_source source = source_of(work, shape, part, level, sinks);
    must(page_encode(&source, work->workspace, work->page, PAGE_ROOM, &written, NULL) == PAGE_OK,
         "a golden page is encoded");
    return written;
}

static size_t decode(struct golden_work *work, const void *page, size_t length,
                     const struct page_shape *shape, enum page_dtype dtype) {
    struct page_target target = {.tokens = shape->tokens,
                                 .dtype = dtype,
                                 .values = work->decoded,
                                 .strides = strides_of(shape)};
    must(page_decode(page, length, &target, work->workspace) == PAGE_OK,
         "a golden page is decoded");
    return shape->tokens * page_row_bytes(dtype, strides_of(shape).token);
}

/* ---- lines ---- */

struct sums {
    uint64_t pages, values, aged;
};

static void add(uint64_t *sum, const void *bytes, size_t count) {
    *sum = XXH3_64bits_withSeed(bytes, count, *sum);
}

static void add_aged(struct golden_work *work, size_t length, const struct page_shape *shape,
                     int level, struct sums *sums) {
    size_t written;
    if (page_age((struct page_bytes){work->page, length}, level + 1, work->workspace, work->aged,
                 PAGE_ROOM, &written, NULL) != PAGE_OK)
        return; /* what holds no level does not age */
    add(&sums->aged, work->aged, written);
    add(&sums->aged, work->decoded, decode(work, work->aged, written, shape, shape->dtype));
}

static void add_part(struct golden_work *work, const struct page_shape *shape, enum page_part part,
                     int level, uint32_t sinks, struct sums *sums) {
    size_t length = encode(work, shape, part, level, sinks);
    add(&sums->pages, work->page, length);
    for (int dtype = PAGE_F16; dtype <= DTYPES; dtype++)
        add(&sums->values, work->decoded,
            decode(work, work->page, length, shape, (enum page_dtype)dtype));
    if (shape->dtype > PAGE_F32)
        add(&sums->values, work->decoded, decode(work, work->page, length, shape, shape->dtype));
    if (level >= 0 && level < PAGE_LEVEL_MAX)
        add_aged(work, length, shape, level, sums);
}

size_t golden_line_count(void) {
    return LINES + LEVELS * COMPACT;
}

/* All shapes for each dtype of numbers, one of whole blocks for each compact one. */
static struct page_shape line_case(size_t i, size_t *level) {
    bool is_compact = i >= LINES;
    struct page_shape shape = line_shapes[is_compact ? LINE_SHAPES - 1 : i % LINE_SHAPES];
    size_t row = is_compact ? i - LINES : i / LINE_SHAPES, dtypes = is_compact ? COMPACT : DTYPES;
    shape.dtype = (enum page_dtype)((is_compact ? PAGE_F8E4M3 : PAGE_F16) + row % dtypes);
    *level = row / dtypes;
    return shape;
}

void golden_line(size_t i, struct golden_work *work, char line[GOLDEN_LINE_BYTES]) {
    size_t level;
    struct page_shape shape = line_case(i, &level);
    struct sums sums = {0};
    fill(work->values, &shape, NONE);
    add_part(work, &shape, PAGE_K, (int)level + PAGE_LEVEL_MIN, shape.tokens >= 4 ? 4 : 0, &sums);
    add_part(work, &shape, PAGE_V, (int)level + PAGE_LEVEL_MIN, 0, &sums);
    snprintf(line, GOLDEN_LINE_BYTES,
             "%-6s %-4s %3" PRIu32 "x%" PRIu32 "x%-4" PRIu32 " %016" PRIx64 " %016" PRIx64
             " %016" PRIx64,
             level_names[level], dtype_names[shape.dtype], shape.tokens, shape.heads,
             shape.head_dim, sums.pages, sums.values, sums.aged);
}

/* ---- pages that are kept ---- */

enum { AGED = 2 /* levels 1 and 4, to 3 and 5 */, PLAIN = LEVELS * DTYPES * PAGE_SHAPES };
static const int odd_levels[] = {PAGE_EXACT, PAGE_FAST8, 0, 3}, compact_levels[] = {PAGE_EXACT, 4};
enum {
    ODD_LEVELS = sizeof odd_levels / sizeof *odd_levels,
    ODD = (ODDITIES - 1) * ODD_LEVELS,
    COMPACT_LEVELS = sizeof compact_levels / sizeof *compact_levels,
    COMPACT_PAGES = COMPACT * COMPACT_LEVELS,
};

size_t golden_page_count(void) {
    return PLAIN + ODD + COMPACT_PAGES + AGED;
}

static struct golden_page plain_page(struct golden_work *work, const struct page_shape *shape,
                                     int level, enum oddity oddity) {
    bool odd = shape->tokens % 2 != 0;
    struct golden_page made = {
        .page = work->page,
        .values = work->decoded,
        .source = source_of(work, shape, odd ? PAGE_K : PAGE_V, level, odd ? 2 : 0),
        .level = level,
    };
    snprintf(made.name, sizeof made.name, "%s-%s-%" PRIu32 "x%" PRIu32 "x%" PRIu32 "%s",
             level_names[level - PAGE_LEVEL_MIN], dtype_names[shape->dtype], shape->tokens,
             shape->heads, shape->head_dim, oddity_names[oddity]);
    fill(work->values, shape, oddity);
    made.page_bytes = encode(work, shape, made.source.part, level, made.source.sink_tokens);
    made.value_bytes = decode(work, work->page, made.page_bytes, shape, shape->dtype);
    return made;
}

static struct golden_page aged_page(struct golden_work *work, int from, int to) {
    struct page_shape shape = page_shapes[1];
    shape.dtype = PAGE_F16;
    struct golden_page made = plain_page(work, &shape, from, NONE);
    size_t length = made.page_bytes;
    snprintf(made.name, sizeof made.name, "level%d-from-level%d-f16-70x1x9", to, from);
    made.page = work->aged;
    made.level = to;
    must(page_age((struct page_bytes){work->page, length}, to, work->workspace, work->aged,
                  PAGE_ROOM, &made.page_bytes, NULL) == PAGE_OK,
         "a golden page ages");
    made.value_bytes = decode(work, work->aged, made.page_bytes, &shape, shape.dtype);
    return made;
}

static struct golden_page compact_page(size_t i, struct golden_work *work) {
    struct page_shape shape = compact_shape;
    shape.dtype = (enum page_dtype)(PAGE_F8E4M3 + i / COMPACT_LEVELS);
    return plain_page(work, &shape, compact_levels[i % COMPACT_LEVELS], NONE);
}

struct golden_page golden_page(size_t i, struct golden_work *work) {
    if (i >= PLAIN + ODD + COMPACT_PAGES)
        return i == PLAIN + ODD + COMPACT_PAGES ? aged_page(work, 1, 3) : aged_page(work, 4, 5);
    if (i >= PLAIN + ODD)
        return compact_page(i - PLAIN - ODD, work);
    struct page_shape shape = i < PLAIN ? page_shapes[i % PAGE_SHAPES] : odd_shape;
    if (i >= PLAIN) {
        shape.dtype = PAGE_F16;
        return plain_page(work, &shape, odd_levels[(i - PLAIN) % ODD_LEVELS],
                          (enum oddity)(1 + (i - PLAIN) / ODD_LEVELS));
    }
    shape.dtype = (enum page_dtype)(PAGE_F16 + i / PAGE_SHAPES % DTYPES);
    return plain_page(work, &shape, (int)(i / PAGE_SHAPES / DTYPES) + PAGE_LEVEL_MIN, NONE);
}
