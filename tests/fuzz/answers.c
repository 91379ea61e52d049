#include "tests/fuzz/answers.h"

#include <string.h>

#include "proto/wire/errors.h"
#include "proto/wire/kvq.pb-c.h"
#include "tests/fuzz/must.h"

static const ProtobufCMessageDescriptor *const replies[WIRE_TYPES] = {
    [WIRE_HELLO] = &kvq__hello_reply__descriptor,
    [WIRE_PING] = &kvq__ping_reply__descriptor,
    [WIRE_OPEN] = &kvq__open_reply__descriptor,
    [WIRE_APPEND] = &kvq__append_reply__descriptor,
    [WIRE_FETCH] = &kvq__fetch_reply__descriptor,
    [WIRE_INFO] = &kvq__session_info__descriptor,
    [WIRE_LIST] = &kvq__list_reply__descriptor,
    [WIRE_DELETE] = &kvq__delete_reply__descriptor,
    [WIRE_STATS] = &kvq__stats_reply__descriptor,
    [WIRE_FORK] = &kvq__fork_reply__descriptor,
    [WIRE_TRUNCATE] = &kvq__truncate_reply__descriptor,
    [WIRE_AGE] = &kvq__age_reply__descriptor,
    [WIRE_PIN] = &kvq__pin_reply__descriptor,
    [WIRE_DELETE_MANY] = &kvq__delete_many_reply__descriptor,
    [WIRE_POLICY] = &kvq__policy_reply__descriptor,
    [WIRE_MATCH] = &kvq__match_reply__descriptor,
    [WIRE_FLUSH] = &kvq__flush_reply__descriptor,
    [WIRE_ATTACH_PUT] = &kvq__attach_put_reply__descriptor,
    [WIRE_ATTACH_GET] = &kvq__attach_get_reply__descriptor,
    [WIRE_ATTACH_LIST] = &kvq__attach_list_reply__descriptor,
    [WIRE_ATTACH_DELETE] = &kvq__attach_delete_reply__descriptor,
    [WIRE_BLOCK_PUT] = &kvq__block_put_reply__descriptor,
    [WIRE_BLOCK_GET] = &kvq__block_get_reply__descriptor,
    [WIRE_BLOCK_CONTROL] = &kvq__block_control_reply__descriptor,
    [WIRE_CONTROL] = &kvq__control_reply__descriptor,
    [WIRE_INDEX_PUT] = &kvq__index_put_reply__descriptor,
    [WIRE_INDEX_DELETE] = &kvq__index_delete_reply__descriptor,
    [WIRE_RECALL] = &kvq__recall_reply__descriptor,
    [WIRE_RECALL_KEYS] = &kvq__recall_keys_reply__descriptor,
    [WIRE_DUMP] = &kvq__dump_reply__descriptor,
    [WIRE_RESTORE] = &kvq__restore_reply__descriptor,
};

void answers_begin(struct answers *answers) {
    answers->asked_count = answers->skip = answers->header_bytes = answers->frame_bytes = 0;
    answers->nonsense = answers->too_many = false;
}

/* --- what the client sends --- */

static void see_header(struct answers *answers) {
    struct wire_header header;
    answers->header_bytes = 0;
    if (wire_header_read(answers->header, &header) != WIRE_OK) {
        answers->nonsense = true;
        return;
    }
    answers->skip = (size_t)header.control_bytes + header.payload_bytes;
    if (header.type >= WIRE_TYPES || header.type == WIRE_DATA || header.type == WIRE_COMMIT ||
        header.type == WIRE_CANCEL)
        return;
    answers->too_many |= answers->asked_count == ANSWERS_REQUESTS_MAX;
    if (!answers->too_many)
        answers->asked[answers->asked_count++] =
            (struct asked){.id = header.request_id, .type = header.type};
}

void answers_expect(struct answers *answers, const uint8_t *bytes, size_t count) {
    while (count > 0 && !answers->nonsense) {
        size_t wanted =
            answers->skip > 0 ? answers->skip : sizeof answers->header - answers->header_bytes;
        size_t now = wanted < count ? wanted : count;
        if (answers->skip > 0) {
            answers->skip -= now;
        } else {
            memcpy(answers->header + answers->header_bytes, bytes, now);
            answers->header_bytes += now;
            if (answers->header_bytes == sizeof answers->header)
                see_header(answers);
        }
        bytes += now;
        count -= now;
    }
}

/* --- what the daemon sends --- */

/* The first request of this id that was not answered: ids may be used again. */
static struct asked *find(struct answers *answers, uint32_t id) {
    for (size_t i = 0; i < answers->asked_count; i++)
        if (answers->asked[i].id == id && !answers->asked[i].answered)
            return &answers->asked[i];
    return NULL;
}

static void must_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *control,
                        size_t bytes) {
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, bytes, control);
    must(message != NULL, "a reply is its request's message");
    protobuf_c_message_free_unpacked(message, NULL);
}

static void take_error(struct answers *answers, uint32_t id, const uint8_t *control, size_t bytes) {
    Kvq__ErrorReply *error = kvq__error_reply__unpack(NULL, bytes, control);
    struct asked *asked = find(answers, id);
    must(error != NULL && error->code > WIRE_OK && error->code < WIRE_ERROR_COUNT,
         "an error has a code");
    must(error->message[0] != '\0', "an error has a sentence");
    kvq__error_reply__free_unpacked(error, NULL);
    if (asked)
        asked->answered = true; /* else it is the connection's */
}

static void take_frame(struct answers *answers, const struct wire_header *header) {
    const uint8_t *control = answers->frame + WIRE_HEADER_BYTES;
    struct asked *asked = find(answers, header->request_id);
    struct wire_data data;
    if (header->type == WIRE_ERROR) {
        take_error(answers, header->request_id, control, header->control_bytes);
        return;
    }
    must(asked != NULL || answers->too_many, "a frame is of a request that was sent");
    if (header->type == WIRE_DATA) {
        must(wire_data_read(control, &data) == WIRE_OK, "a DATA frame says what it has");
        return;
    }
    must(header->type == WIRE_REPLY, "a daemon sends DATA, REPLY and ERROR");
    if (!asked)
        return;
    asked->answered = true;
    must(replies[asked->type] != NULL, "only operations have replies");
    must_unpack(replies[asked->type], control, header->control_bytes);
}

/* How many bytes the frame at the buffer's start still lacks; 0: it was taken. */
static size_t lacks(struct answers *answers) {
    struct wire_header header;
    if (answers->frame_bytes < WIRE_HEADER_BYTES)
        return WIRE_HEADER_BYTES - answers->frame_bytes;
    must(wire_header_read(answers->frame, &header) == WIRE_OK, "a daemon sends frames");
    size_t bytes = (size_t)WIRE_HEADER_BYTES + header.control_bytes + header.payload_bytes;
    if (answers->frame_bytes < bytes)
        return bytes - answers->frame_bytes;
    take_frame(answers, &header);
    answers->frame_bytes = 0;
    return 0;
}

void answers_take(struct answers *answers, const uint8_t *bytes, size_t count) {
    for (;;) {
        size_t wanted = lacks(answers);
        size_t now = wanted < count ? wanted : count;
        memcpy(answers->frame + answers->frame_bytes, bytes, now);
        answers->frame_bytes += now;
        bytes += now;
        count -= now;
        if (now < wanted || (count == 0 && wanted == 0))
            return;
    }
}
