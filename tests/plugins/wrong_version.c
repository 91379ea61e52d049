/* For a version of the interface that does not exist. */
#include "daemon/recall/kvq_retriever.h"

const struct kvq_retriever kvq_retriever_v1 = {.version = KVQ_RETRIEVER_VERSION + 1,
                                               .name = "wrong version"};
