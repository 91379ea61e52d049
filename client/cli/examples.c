/* Examples, in an order in which they can be run one after the other. */
#include "client/cli/help.h"

const struct example examples[] = {
    {"kvq import chat-42 cache.npy --model my-model --level 3",
     "Store a cache, and see what it takes and has lost:"},
    {"kvq export chat-42 back.npy --tokens 0:512", "Have its first 512 tokens back:"},
    {"kvq fork chat-42 chat-43 --tokens 512",
     "Let a second session go on from the first 512 tokens, without a copy:"},
    {"kvq import chat-44 cache.npy --model my-model --ids ids.npy",
     "Store a cache with its token ids:"},
    {"kvq match --ids ids.npy --model my-model",
     "Find the session that begins with the most of some tokens:"},
    {"kvq attach put chat-42 sampler <sampler.bin", "Keep something small with a session:"},
    {"kvq attach get chat-42 sampler", "Have it back:"},
    {"kvq truncate chat-43 128", "Take back all but the first 128 tokens:"},
    {"kvq age chat-42 --level 4", "Spend fewer bits on a session:"},
    {"kvq policy chat-42 --floor 5 --idle-step 1h --ttl 7d",
     "Let it get coarser while nobody uses it, and be deleted in the end:"},
    {"kvq pin chat-42 --for 2h", "Keep it, whatever is deleted in bulk meanwhile:"},
    {"kvq sessions --sort size | head -n 20", "See which sessions take most:"},
    {"kvq info chat-42 --json", "Give a program all that is known of a session:"},
    {"kvq status", "See how the daemon is:"},
    {"kvq top --seconds 1", "Watch it, in a terminal:"},
    {"kvq doctor", "See what of it, and of its machine, is not as it should be:"},
    {"kvq control drain", "Let it take no more, before it is stopped:"},
    {"kvq profile tiny", "See what a microcontroller's cache takes, without a daemon:"},
    {"kvq plan tiny 100 8192 --memory 1G",
     "See what a hundred sessions will take, and how many fit into a GiB:"},
    {"kvq rm --prefix chat- --older 1ms --dry-run", "See what deleting in bulk would delete:"},
    {"kvq rm --model my-model --pinned-too", "Delete all sessions of a model:"},
};
const int example_count = sizeof examples / sizeof examples[0];
