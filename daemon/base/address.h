/* Addresses of TCP sockets as HOST:PORT. No name but `localhost` is looked up. */
#ifndef DAEMON_BASE_ADDRESS_H
#define DAEMON_BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

enum { ADDRESS_TEXT_BYTES = 64 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* A.B.C.D, [IPv6] or localhost (which is 127.0.0.1), and a port; 0 lets the system choose it. */
bool address_parse(const char *text, union address *address) __attribute__((warn_unused_result));

/* The same, of 127.0.0.0/8 and [::1] alone. */
bool address_parse_loopback(const char *text, union address *address)
    __attribute__((warn_unused_result));

socklen_t address_bytes(const union address *address);

bool address_is_loopback(const union address *address);

/* The address as address_parse() reads it. */
void address_write(const union address *address, char text[ADDRESS_TEXT_BYTES]);

#endif
