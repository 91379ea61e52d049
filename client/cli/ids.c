#include "client/cli/ids.h"

#include "client/cli/command.h"
#include "client/cli/file_map.h"
#include "client/cli/npy.h"
#include "client/cli/words.h"

#include <stdlib.h>
#include <string.h>

static bool no_memory(void) {
    complain("no memory for the token ids");
    return false;
}

static bool take_list(const char *text, struct ids *ids) {
    uint64_t number;
    ids->numbers = malloc((strlen(text) / 2 + 1) * sizeof *ids->numbers);
    if (!ids->numbers)
        return no_memory();
    while (number_prefix(text, &text, &number) && number <= UINT32_MAX) {
        ids->numbers[ids->count++] = (uint32_t)number;
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            break;
    }
    complain("--ids: token ids are numbers up to 4294967295 with commas between");
    return false;
}

static bool take_file(const char *path, struct ids *ids) {
    struct file_map map;
    struct npy_integers row;
    if (!file_map_open(path, &map))
        return false;
    bool taken = npy_parse_integers(path, map.bytes, map.count, &row);
    if (taken) {
        ids->numbers = malloc((row.count + 1) * sizeof *ids->numbers);
        taken = ids->numbers || no_memory();
    }
    for (; taken && ids->count < row.count; ids->count++) {
        int64_t number = npy_integer(&row, ids->count);
        taken = number >= 0 && number <= UINT32_MAX;
        if (!taken)
            complain("%s: %lld is no token id", path, (long long)number);
        else
            ids->numbers[ids->count] = (uint32_t)number;
    }
    file_map_close(&map);
    return taken;
}

bool ids_open(const char *text, struct ids *ids) {
    *ids = (struct ids){0};
    return strspn(text, "0123456789,") == strlen(text) ? take_list(text, ids)
                                                       : take_file(text, ids);
}

void ids_close(struct ids *ids) {
    free(ids->numbers);
}
