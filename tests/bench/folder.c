#include "tests/bench/folder.h"

#include "tests/bench/fail.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/kvq-bench.XXXXXX";
static pid_t maker;

static void remove_folder(void) {
    DIR *entries =
        getpid() == maker ? opendir(path) : NULL; /* a child that fails removes nothing */
    if (!entries)
        return;
    for (struct dirent *entry; (entry = readdir(entries));)
        unlinkat(dirfd(entries), entry->d_name, 0);
    closedir(entries);
    rmdir(path);
}

const char *folder_make(void) {
    if (!mkdtemp(path))
        fail("mkdtemp");
    maker = getpid();
    if (atexit(remove_folder))
        fail_because("the folder of this run would stay");
    return path;
}
