#include "daemon/store/batch_labels.h"

#include <stdlib.h>
#include <string.h>

int batch_labels_init(struct batch_labels *labels, size_t room) {
    *labels = (struct batch_labels){.sorted = calloc(room + 1, sizeof *labels->sorted)};
    return labels->sorted ? 0 : -1;
}

void batch_labels_add(struct batch_labels *labels, struct batch_text text) {
    if (text.bytes > 0)
        labels->sorted[labels->count++] =
            (struct batch_label){.hash = batch_label_hash(text), .text = text};
}

static int compare_text(struct batch_text left, struct batch_text right) {
    int order = (left.bytes > right.bytes) - (left.bytes < right.bytes);
    return order != 0 ? order : memcmp(left.text, right.text, left.bytes);
}

static int compare(const void *a, const void *b) {
    const struct batch_label *left = a, *right = b;
    int order = (left->hash > right->hash) - (left->hash < right->hash);
    return order != 0 ? order : compare_text(left->text, right->text);
}

bool batch_labels_sort(struct batch_labels *labels) {
    if (labels->count > 0)
        qsort(labels->sorted, labels->count, sizeof *labels->sorted, compare);
    for (size_t i = 1; i < labels->count; i++)
        if (compare(&labels->sorted[i - 1], &labels->sorted[i]) == 0)
            return false;
    return true;
}

bool batch_labels_have(const struct batch_labels *labels, const struct batch_view *batch,
                       uint32_t row) {
    struct batch_label wanted = {.hash = batch->row[row].label_hash};
    if (wanted.hash == 0 || labels->count == 0)
        return false;
    wanted.text = batch_label(batch, row);
    return bsearch(&wanted, labels->sorted, labels->count, sizeof wanted, compare) != NULL;
}

void batch_labels_deinit(struct batch_labels *labels) {
    free(labels->sorted);
    labels->sorted = NULL;
}
