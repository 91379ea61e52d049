#include "daemon/base/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_DIGITS_MAX = 5, PORT_MAX = 65535 };

static bool parse_port(const char *text, in_port_t *port) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > PORT_DIGITS_MAX || text[digits])
        return false;
    unsigned long value = strtoul(text, NULL, 10);
    *port = htons((uint16_t)value);
    return value <= PORT_MAX;
}

static bool parse_host(const char *host, union address *address) {
    size_t length = strlen(host);
    if (length > 1 && host[0] == '[' && host[length - 1] == ']') {
        char inner[INET6_ADDRSTRLEN] = "";
        if (length - 2 >= sizeof inner)
            return false;
        memcpy(inner, host + 1, length - 2);
        address->v6.sin6_family = AF_INET6;
        return inet_pton(AF_INET6, inner, &address->v6.sin6_addr) == 1;
    }
    address->v4.sin_family = AF_INET;
    return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host,
                     &address->v4.sin_addr) == 1;
}

bool address_parse(const char *text, union address *address) {
    char host[ADDRESS_TEXT_BYTES];
    const char *colon = strrchr(text, ':');
    in_port_t port;
    *address = (union address){0};
    if (!colon || (size_t)(colon - text) >= sizeof host || !parse_port(colon + 1, &port))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    if (!parse_host(host, address))
        return false;
    *(address->any.sa_family == AF_INET ? &address->v4.sin_port : &address->v6.sin6_port) = port;
    return true;
}

bool address_parse_loopback(const char *text, union address *address) {
    return address_parse(text, address) && address_is_loopback(address);
}

socklen_t address_bytes(const union address *address) {
    return address->any.sa_family == AF_INET ? sizeof address->v4 : sizeof address->v6;
}

bool address_is_loopback(const union address *address) {
    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

void address_write(const union address *address, char text[ADDRESS_TEXT_BYTES]) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_BYTES, "%s:%u", host, ntohs(address->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_BYTES, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    }
}
