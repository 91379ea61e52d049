/* Freezes the format as it is: writes encoder.txt to the folder given. */
#include "proto/page/kernels.h"
#include "tests/fuzz/must.h"
#include "tests/golden/golden_cases.h"

#include <stdio.h>

static void write_lines(const char *folder, struct golden_work *work) {
    char line[GOLDEN_LINE_BYTES];
    char path[4096];
    snprintf(path, sizeof path, "%s/encoder.txt", folder);
    FILE *file = fopen(path, "w");
    must(file != NULL, path);
    for (size_t i = 0; i < golden_line_count(); i++) {
        golden_line(i, work, line);
        fprintf(file, "%s\n", line);
    }
    must(fclose(file) == 0, "there is room");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: write_golden FOLDER\n");
        return 2;
    }
    struct golden_work work = golden_work_new();
    page_kernels_use(page_kernels_by_name("portable"));
    write_lines(argv[1], &work);
    golden_work_free(&work);
    return 0;
}
