/* Has the right version, and nothing to call. */
#include "daemon/recall/kvq_retriever.h"

const struct kvq_retriever kvq_retriever_v1 = {.version = KVQ_RETRIEVER_VERSION,
                                               .name = "missing functions"};
