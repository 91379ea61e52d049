/* Plays steps on a store and on the reference, and compares what comes of them. */
#ifndef TESTS_FAULTS_PLAYER_H
#define TESTS_FAULTS_PLAYER_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/faults/steps.h"

/* Plays these steps in a world of their own, to the check at the end that nothing is left. Prints
 * them if told to. What is wrong is said on stderr, and ends the process with status 1. */
void play(const struct world *world, const struct step *steps, size_t count, bool verbose);

/* What the process that played has left in files. */
void play_clean_up(pid_t pid);

#endif
