/* How a session is shown: as JSON, and as lines for people. */
#ifndef CLIENT_CLI_SHOW_H
#define CLIENT_CLI_SHOW_H

#include "client/c/kvq.h"
#include "client/cli/json.h"

/* An object; levels only where info has them. name as in json.h. */
void show_session_json(struct json *json, const char *name, const struct kvq_session_info *info);

/* A level as a member: a number from 0 on, else a word. */
void show_level_json(struct json *json, const char *name, int level);

/* An object, and its line. */
void show_policy_json(struct json *json, const char *name, const struct kvq_policy *policy);
void show_policy(const struct kvq_policy *policy);

/* The member "levels", and its lines: tokens and bytes at each level, in sinks and in tails. */
void show_levels_json(struct json *json, const struct kvq_level_info *levels, size_t count);
void show_levels(const struct kvq_level_info *levels, size_t count);

/* Fetches and prints a session: what `kvq info` and `kvq import` end with. Returns the call's
 * error. */
int show_session(struct kvq_client *client, const char *session, bool as_json);

#endif
