#include "client/cli/words.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static const char *const level_names[] = {"exact", "fast8", "0", "1", "2", "3", "4", "5"};
static const char *const dtype_names[] = {"?",        "f16",      "bf16", "f32",
                                          "fp8_e4m3", "fp8_e5m2", "int8"};
enum { DTYPES = sizeof dtype_names / sizeof *dtype_names };
static const char *const pairing_names[] = {"none", "interleaved", "half"};

/* The name's index from `from` on, or -1. */
static int index_of(const char *name, const char *const *names, int from, int count) {
    for (int i = from; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

bool level_from_name(const char *name, int *level) {
    int index = index_of(name, level_names, 0, KVQ_LEVELS);
    *level = index + KVQ_LEVEL_EXACT;
    return index >= 0;
}

bool dtype_from_name(const char *name, enum kvq_dtype *dtype) {
    int index = index_of(name, dtype_names, KVQ_F16, DTYPES);
    *dtype = (enum kvq_dtype)(index < 0 ? 0 : index);
    return index >= 0;
}

bool pairing_from_name(const char *name, enum kvq_pairing *pairing) {
    int index = index_of(name, pairing_names, KVQ_PAIRING_INTERLEAVED, KVQ_PAIRING_HALF + 1);
    *pairing = (enum kvq_pairing)(index < 0 ? 0 : index);
    return index >= 0;
}

const char *level_name(int level) {
    bool known = level >= KVQ_LEVEL_EXACT && level <= KVQ_LEVEL_COARSEST;
    return known ? level_names[level - KVQ_LEVEL_EXACT] : "?";
}

const char *dtype_name(enum kvq_dtype dtype) {
    return (unsigned)dtype < DTYPES ? dtype_names[dtype] : "?";
}

const char *state_name(enum kvq_state state) {
    static const char *const names[] = {"?", "normal", "drained", "read-only"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}

const char *role_name(enum kvq_role role) {
    static const char *const names[] = {"?", "reader", "worker", "admin"};
    return (unsigned)role < sizeof names / sizeof names[0] ? names[role] : "?";
}

const char *takeover_name(enum kvq_takeover outcome) {
    static const char *const names[] = {"none", "done", "cold", "set-aside"};
    return (unsigned)outcome < sizeof names / sizeof names[0] ? names[outcome] : "?";
}

const char *pairing_name(enum kvq_pairing pairing) {
    return (unsigned)pairing <= KVQ_PAIRING_HALF ? pairing_names[pairing] : "?";
}

bool is_tenant_name(const char *text) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strspn(text, letters);
    return text[length] == '\0' && length > 0 && length <= 64;
}

bool number_prefix(const char *text, const char **end, uint64_t *number) {
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *stop;
    errno = 0;
    *number = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

bool number_from_text(const char *text, uint64_t *number) {
    const char *end;
    return number_prefix(text, &end, number) && *end == '\0';
}

bool bytes_from_text(const char *text, uint64_t *bytes) {
    static const char units[] = "KMGT";
    const char *unit;
    if (!number_prefix(text, &unit, bytes))
        return false;
    if (unit[0] == '\0')
        return true;
    const char *found = strchr(units, unit[0]);
    return found && unit[1] == '\0' &&
           !__builtin_mul_overflow(*bytes, UINT64_C(1) << 10 * (found - units + 1), bytes);
}

bool milliseconds_from_text(const char *text, uint64_t *milliseconds) {
    static const struct {
        const char *name;
        uint64_t milliseconds;
    } units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    const char *unit;
    uint64_t count;
    if (!number_prefix(text, &unit, &count))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return !__builtin_mul_overflow(count, units[i].milliseconds, milliseconds);
    return false;
}

const char *bytes_text(uint64_t bytes, char *text) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)bytes;
    int unit = 0;
    for (; amount >= 1024 && unit < 4; unit++)
        amount /= 1024;
    bool whole = unit == 0 || amount >= 999.95; /* at most 9 characters */
    snprintf(text, WORD_BYTES, whole ? "%.0f %s" : "%.1f %s", amount, units[unit]);
    return text;
}

const char *count_text(uint64_t count, char *text) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    char *out = text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

const char *short_count_text(uint64_t count, char *text) {
    static const char units[] = " kMGT";
    double number = (double)count;
    size_t unit = 0;
    for (; number >= 9999.5 && unit < sizeof units - 2; unit++)
        number /= 1000;
    if (unit == 0)
        snprintf(text, WORD_BYTES, "%.0f", number);
    else
        snprintf(text, WORD_BYTES, "%.0f %c", number, units[unit]);
    return text;
}

const char *seconds_text(double seconds, char *text) {
    unsigned long long whole = seconds > 0 && seconds < 1e15 ? (unsigned long long)seconds : 0;
    if (whole >= 86400)
        snprintf(text, WORD_BYTES, "%llu d %llu h", whole / 86400, whole % 86400 / 3600);
    else if (whole >= 3600)
        snprintf(text, WORD_BYTES, "%llu h %llu min", whole / 3600, whole % 3600 / 60);
    else if (whole >= 60)
        snprintf(text, WORD_BYTES, "%llu min %llu s", whole / 60, whole % 60);
    else
        snprintf(text, WORD_BYTES, "%llu s", whole);
    return text;
}

const char *short_time_text(uint64_t milliseconds, char *text) {
    unsigned long long seconds = milliseconds / 1000;
    if (seconds >= 86400)
        snprintf(text, WORD_BYTES, "%llud", seconds / 86400);
    else if (seconds >= 3600)
        snprintf(text, WORD_BYTES, "%lluh", seconds / 3600);
    else if (seconds >= 60)
        snprintf(text, WORD_BYTES, "%llumin", seconds / 60);
    else
        snprintf(text, WORD_BYTES, "%llus", seconds);
    return text;
}

const char *microseconds_text(double microseconds, char *text) {
    if (!isfinite(microseconds))
        snprintf(text, WORD_BYTES, "-");
    else if (microseconds < 1000)
        snprintf(text, WORD_BYTES, "%.0f us", microseconds);
    else if (microseconds < 1e6)
        snprintf(text, WORD_BYTES, "%.1f ms", microseconds / 1000);
    else
        snprintf(text, WORD_BYTES, "%.1f s", microseconds / 1e6);
    return text;
}

const char *figure_text(double figure, int decimals, const char *unit, char *text) {
    if (isfinite(figure))
        snprintf(text, WORD_BYTES, "%.*f%s", decimals, figure, unit);
    else
        snprintf(text, WORD_BYTES, "-");
    return text;
}

int name_columns(const char *name) {
    mbstate_t state = {0};
    int columns = 0;
    for (const char *end = name + strlen(name); name < end;) {
        wchar_t character;
        size_t bytes = mbrtowc(&character, name, (size_t)(end - name), &state);
        if (bytes == 0 || bytes > (size_t)(end - name)) { /* this locale knows no such character */
            bytes = 1;
            state = (mbstate_t){0};
            character = L'?';
        }
        int width = wcwidth(character);
        columns += width > 0 ? width : 0;
        name += bytes;
    }
    return columns;
}
