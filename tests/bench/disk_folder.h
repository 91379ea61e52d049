/* The folder of a disk tier that a bench measures: what the system keeps of its files, and how fast
 * they are read as plain files. */
#ifndef TESTS_BENCH_DISK_FOLDER_H
#define TESTS_BENCH_DISK_FOLDER_H

/* What is durable of its files leaves the page cache. Fails if there is no such folder. */
void disk_folder_drop_cache(const char *folder);

/* Reads every file once, in calls of 1 MiB; the seconds that it took. */
double disk_folder_read(const char *folder);

/* Removes it with all its files. */
void disk_folder_remove(const char *folder);

#endif
