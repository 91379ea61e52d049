/* Freezes the format as it is: writes encoder.txt, *.page and *.values to the folder given. */
#include "proto/page/kernels.h"
#include "tests/fuzz/must.h"
#include "tests/golden/golden_cases.h"

#include <stdio.h>

static FILE *open_in(const char *folder, const char *name, const char *ending) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    FILE *file = fopen(path, "wb");
    must(file != NULL, path);
    return file;
}

static void write_file(const char *folder, const char *name, const char *ending, const void *bytes,
                       size_t count) {
    FILE *file = open_in(folder, name, ending);
    must(fwrite(bytes, 1, count, file) == count && fclose(file) == 0, "there is room");
}

static void write_lines(const char *folder, struct golden_work *work) {
    char line[GOLDEN_LINE_BYTES];
    FILE *file = open_in(folder, "encoder", ".txt");
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
    for (size_t i = 0; i < golden_page_count(); i++) {
        struct golden_page made = golden_page(i, &work);
        write_file(argv[1], made.name, ".page", made.page, made.page_bytes);
        write_file(argv[1], made.name, ".values", made.values, made.value_bytes);
    }
    golden_work_free(&work);
    return 0;
}
