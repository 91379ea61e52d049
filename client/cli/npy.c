#include "client/cli/npy.h"

#include "client/cli/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DICTIONARY_BYTES_MAX = 10000, DESCRIPTION_BYTES = 16 };

/* What the dictionary of the header says. */
struct description {
    char dtype[DESCRIPTION_BYTES];
    bool has_dtype, has_order, has_shape, fortran_order;
    uint32_t rank;
    uint64_t shape[NPY_RANK_MAX];
};

static bool refuse(const char *name, const char *what) {
    complain("%s: %s", name, what);
    return false;
}

static void skip_spaces(const char **text) {
    *text += strspn(*text, " \t\n");
}

static bool take(const char **text, char expected) {
    skip_spaces(text);
    if (**text != expected)
        return false;
    (*text)++;
    return true;
}

static bool take_word(const char **text, const char *word) {
    skip_spaces(text);
    size_t length = strlen(word);
    if (strncmp(*text, word, length) != 0)
        return false;
    *text += length;
    return true;
}

static bool take_string(const char **text, char *string, size_t size) {
    skip_spaces(text);
    char quote = **text;
    if (quote != '\'' && quote != '"')
        return false;
    const char *end = strchr(*text + 1, quote);
    if (!end || (size_t)(end - *text) > size)
        return false;
    size_t length = (size_t)(end - *text) - 1;
    memcpy(string, *text + 1, length);
    string[length] = '\0';
    *text = end + 1;
    return true;
}

static bool take_shape(const char **text, struct description *description) {
    if (!take(text, '('))
        return false;
    while (!take(text, ')')) {
        char *end;
        if (description->rank == NPY_RANK_MAX || **text < '0' || **text > '9')
            return false;
        description->shape[description->rank++] = strtoull(*text, &end, 10);
        *text = end;
        take(text, ',');
    }
    return true;
}

static bool take_member(const char **text, struct description *description) {
    char key[DESCRIPTION_BYTES];
    if (!take_string(text, key, sizeof key) || !take(text, ':'))
        return false;
    if (strcmp(key, "descr") == 0)
        return description->has_dtype =
                   take_string(text, description->dtype, sizeof description->dtype);
    if (strcmp(key, "shape") == 0)
        return description->has_shape = take_shape(text, description);
    if (strcmp(key, "fortran_order") != 0)
        return false;
    description->fortran_order = take_word(text, "True");
    return description->has_order = description->fortran_order || take_word(text, "False");
}

static bool parse_dictionary(const char *text, struct description *description) {
    *description = (struct description){0};
    if (!take(&text, '{'))
        return false;
    while (!take(&text, '}')) {
        if (!take_member(&text, description))
            return false;
        take(&text, ',');
    }
    return description->has_dtype && description->has_order && description->has_shape;
}

static const char is_bf16[] = "values of 16 bits; if they are bfloat16, add --dtype bf16";
static const char is_fp8[] =
    "values of 8 bits; if they are floats, add --dtype fp8_e4m3 or fp8_e5m2";

/* What values stand in, by NumPy's names; the first of a dtype is what it is written as. NumPy has
 * no bfloat16 and no 8-bit floats: these stand in unsigned integers, or in what ml_dtypes writes
 * (V1, V2, f1), and the user says what they are. */
static const struct npy_type {
    const char *written;
    enum kvq_dtype dtype;
    const char *hint; /* what to say where the user did not; NULL: the type says it all */
} npy_types[] = {
    {"<f2", KVQ_F16, NULL},        {"<f4", KVQ_F32, NULL},        {"|i1", KVQ_INT8, NULL},
    {"<u2", KVQ_BF16, is_bf16},    {"<V2", KVQ_BF16, is_bf16},    {"|u1", KVQ_FP8_E4M3, is_fp8},
    {"|u1", KVQ_FP8_E5M2, is_fp8}, {"<V1", KVQ_FP8_E4M3, is_fp8}, {"<V1", KVQ_FP8_E5M2, is_fp8},
    {"<f1", KVQ_FP8_E5M2, is_fp8},
};
enum { NPY_TYPES = sizeof npy_types / sizeof *npy_types };

/* Little-endian, or of a byte. */
static bool is_type(const char *description, const struct npy_type *type) {
    return description[0] && strchr("<=|", description[0]) &&
           strcmp(description + 1, type->written + 1) == 0;
}

static bool resolve_dtype(const char *name, const char *description, enum kvq_dtype wanted,
                          enum kvq_dtype *dtype) {
    const struct npy_type *found = NULL;
    for (int i = NPY_TYPES - 1; i >= 0; i--)
        if (is_type(description, &npy_types[i]) && (!found || found->dtype != wanted))
            found = &npy_types[i];
    if (!found) {
        complain(
            "%s: values of dtype %s; give float16, float32, int8, bfloat16 as uint16, or 8-bit "
            "floats as uint8, all little-endian",
            name, description);
        return false;
    }
    *dtype = found->dtype;
    if (found->dtype == wanted || (wanted == KVQ_DTYPE_UNSET && !found->hint))
        return true;
    if (found->hint)
        return refuse(name, found->hint);
    complain("%s: values of dtype %s are not what --dtype says", name, description);
    return false;
}

static const char *written_type(enum kvq_dtype dtype) {
    int i = 0;
    while (npy_types[i].dtype != dtype)
        i++;
    return npy_types[i].written;
}

/* The bytes that the values take; false if the product overflows. */
static bool value_bytes(const struct npy_array *array, uint64_t *bytes) {
    *bytes = kvq_dtype_bytes(array->dtype);
    for (uint32_t i = 0; i < array->rank; i++)
        if (__builtin_mul_overflow(*bytes, array->shape[i], bytes))
            return false;
    return true;
}

/* Where the dictionary stands; false for what is no .npy. */
static bool find_dictionary(const char *name, const uint8_t *bytes, size_t count, size_t *start,
                            size_t *length) {
    if (count < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return refuse(name, "not an .npy file");
    if (bytes[6] < 1 || bytes[6] > 3)
        return refuse(name, "an .npy file of an unknown version");
    *start = bytes[6] == 1 ? 10 : 12;
    if (count < *start)
        return refuse(name, "truncated in its header");
    *length = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1)
        *length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (*length > DICTIONARY_BYTES_MAX)
        return refuse(name, "a header too long to be that of plain values");
    return count - *start >= *length || refuse(name, "truncated in its header");
}

/* What the header says, and where the values begin. */
static bool parse_header(const char *name, const uint8_t *bytes, size_t count,
                         struct description *description, size_t *values) {
    char text[DICTIONARY_BYTES_MAX + 1];
    size_t start, length;
    if (!find_dictionary(name, bytes, count, &start, &length))
        return false;
    memcpy(text, bytes + start, length);
    text[length] = '\0';
    if (!parse_dictionary(text, description))
        return refuse(name, "a header that does not describe one array of plain values");
    if (description->fortran_order)
        return refuse(name, "Fortran order; save numpy.ascontiguousarray(...) of it");
    *values = start + length;
    return true;
}

static bool check_length(const char *name, uint64_t needed, uint64_t there) {
    if (needed <= there)
        return true;
    complain("%s: truncated: its header promises %llu bytes of values, there are %llu", name,
             (unsigned long long)needed, (unsigned long long)there);
    return false;
}

bool npy_parse(const char *name, const uint8_t *bytes, size_t count, enum kvq_dtype dtype,
               struct npy_array *array) {
    struct description description;
    size_t values;
    uint64_t needed;
    if (!parse_header(name, bytes, count, &description, &values))
        return false;
    *array = (struct npy_array){.rank = description.rank, .values = bytes + values};
    memcpy(array->shape, description.shape, sizeof array->shape);
    if (!resolve_dtype(name, description.dtype, dtype, &array->dtype))
        return false;
    if (!value_bytes(array, &needed))
        return refuse(name, "a shape that cannot be");
    return check_length(name, needed, count - values);
}

bool npy_parse_integers(const char *name, const uint8_t *bytes, size_t count,
                        struct npy_integers *row) {
    struct description description;
    size_t values;
    uint64_t needed;
    if (!parse_header(name, bytes, count, &description, &values))
        return false;
    const char *type = description.dtype;
    bool is_integer = strlen(type) == 3 && strchr("<=", type[0]) && strchr("iu", type[1]) &&
                      strchr("248", type[2]);
    if (!is_integer || description.rank != 1)
        return refuse(name, "token ids are one row of integers of 16 to 64 bits");
    *row = (struct npy_integers){.is_signed = type[1] == 'i',
                                 .bytes = (uint32_t)(type[2] - '0'),
                                 .count = description.shape[0],
                                 .values = bytes + values};
    if (__builtin_mul_overflow(row->count, row->bytes, &needed))
        return refuse(name, "a shape that cannot be");
    return check_length(name, needed, count - values);
}

int64_t npy_integer(const struct npy_integers *row, uint64_t index) {
    const uint8_t *bytes = row->values + index * row->bytes;
    uint64_t number = row->is_signed && bytes[row->bytes - 1] >> 7 ? UINT64_MAX : 0;
    for (uint32_t i = row->bytes; i-- > 0;)
        number = number << 8 | bytes[i];
    return (int64_t)number;
}

void npy_write_header(uint8_t header[NPY_HEADER_BYTES], enum kvq_dtype dtype, const uint64_t *shape,
                      uint32_t rank) {
    static const uint8_t start[] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, NPY_HEADER_BYTES - 10, 0};
    char text[NPY_HEADER_BYTES - 9];
    int length = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                          written_type(dtype));
    for (uint32_t i = 0; i < rank; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "%llu, ",
                           (unsigned long long)shape[i]);
    length += snprintf(text + length, sizeof text - (size_t)length, "), }");
    memcpy(header, start, sizeof start);
    memset(header + sizeof start, ' ', NPY_HEADER_BYTES - sizeof start);
    memcpy(header + sizeof start, text, (size_t)length);
    header[NPY_HEADER_BYTES - 1] = '\n';
}
