#include "daemon/server/certificate.h"

#include <openssl/bio.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Copies a name that fits and is a string of C. */
static void copy(const void *bytes, int count, char name[CREDENTIAL_SUBJECT_BYTES_MAX + 1]) {
    if (count <= 0 || count > CREDENTIAL_SUBJECT_BYTES_MAX || memchr(bytes, 0, (size_t)count))
        return;
    memcpy(name, bytes, (size_t)count);
    name[count] = 0;
}

static void read_common_name(const X509_NAME *subject, char *name) {
    int first = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (first < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, first) >= 0)
        return;
    unsigned char *text;
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, first);
    int bytes = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    if (bytes < 0)
        return;
    copy(text, bytes, name);
    OPENSSL_free(text);
}

static void read_subject(const X509_NAME *subject, char *name) {
    BIO *out = BIO_new(BIO_s_mem());
    char *text;
    if (out && X509_NAME_print_ex(out, subject, 0, XN_FLAG_RFC2253) > 0) {
        long bytes = BIO_get_mem_data(out, &text);
        copy(text, (int)bytes, name);
    }
    BIO_free(out);
}

void certificate_read_names(const X509 *certificate, struct certificate_names *names) {
    const X509_NAME *subject = X509_get_subject_name(certificate);
    *names = (struct certificate_names){0};
    read_common_name(subject, names->common_name);
    read_subject(subject, names->subject);
}

int64_t certificate_time(const ASN1_TIME *time) {
    struct tm parts;
    return time && ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}
