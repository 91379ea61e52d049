#include "tests/bench/folder.h"

#include "tests/bench/fail.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *folder_make(void) {
    static char path[] = "/tmp/kvq-bench.XXXXXX";
    if (!mkdtemp(path))
        fail("mkdtemp");
    return path;
}

void folder_remove(const char *folder) {
    DIR *entries = opendir(folder);
    if (!entries)
        fail(folder);
    for (struct dirent *entry; (entry = readdir(entries));)
        unlinkat(dirfd(entries), entry->d_name, 0);
    closedir(entries);
    rmdir(folder);
}
