#include "daemon/store/manifest_hold.h"

#include <stdlib.h>

#include "daemon/store/session.h"

/* Without memory nothing is held: a crash may then lose the attachment, as it may one that is
 * not on disk yet. */
void manifest_hold(struct session *session, struct attachment *attachment) {
    struct session_saved *saved = &session->saved;
    if (!saved->under_way && !(saved->any && attachment_is_on_disk(attachment)))
        return;
    struct manifest_hold *hold = malloc(sizeof *hold);
    if (!hold)
        return;
    *hold = (struct manifest_hold){saved->holds, attachment, session_point(session)};
    attachment_ref(attachment);
    saved->holds = hold;
}

static void release(struct manifest_hold **holds) {
    struct manifest_hold *hold = *holds;
    *holds = hold->next;
    attachment_unref(hold->attachment);
    free(hold);
}

void manifest_release(struct manifest_hold **holds, struct session_point point) {
    while (*holds)
        if ((*holds)->point.version < point.version || (*holds)->point.changes < point.changes)
            release(holds);
        else
            holds = &(*holds)->next;
}

void manifest_release_all(struct manifest_hold **holds) {
    while (*holds)
        release(holds);
}
