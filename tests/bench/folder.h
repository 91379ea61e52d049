/* A temporary folder for the sockets of one run, removed with what is in it at its end. */
#ifndef TESTS_BENCH_FOLDER_H
#define TESTS_BENCH_FOLDER_H

/* The folder's path, the program's until folder_remove(). Fails if there is none. */
const char *folder_make(void);
void folder_remove(const char *folder);

#endif
