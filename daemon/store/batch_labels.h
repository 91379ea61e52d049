/* Labels that entries are looked up by. */
#ifndef DAEMON_STORE_BATCH_LABELS_H
#define DAEMON_STORE_BATCH_LABELS_H

#include "daemon/store/batch.h"

struct batch_labels {
    struct batch_label {
        uint64_t hash;
        struct batch_text text;
    } * sorted;
    size_t count;
};

/* The texts stay the caller's; empty ones are left out. 0, or -1 without memory. */
int batch_labels_init(struct batch_labels *labels, size_t room) __attribute__((warn_unused_result));
void batch_labels_add(struct batch_labels *labels, struct batch_text text);

/* After the last: false if one is there twice. */
bool batch_labels_sort(struct batch_labels *labels);
bool batch_labels_have(const struct batch_labels *labels, const struct batch_view *batch,
                       uint32_t row);
void batch_labels_deinit(struct batch_labels *labels);

#endif
