/* A temporary folder for the sockets of one run, removed with what is in it when the program ends.
 */
#ifndef TESTS_BENCH_FOLDER_H
#define TESTS_BENCH_FOLDER_H

/* The folder's path, the program's until its end. Once a program; fails if there is none. */
const char *folder_make(void);

#endif
