#include "client/c/client.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int set_text(struct kvq_client *client, const char *address) {
    int length = snprintf(client->address, sizeof client->address, "%s", address);
    if (length < 0 || (size_t)length >= sizeof client->address)
        return kvq_fail(client, KVQ_ARGUMENT, "the socket's path is longer than %zu bytes: %s",
                        sizeof((struct sockaddr_un *)0)->sun_path - 1, address);
    return KVQ_OK;
}

static int find_text(struct kvq_client *client, const char *given) {
    const char *environment = getenv("KVQ_SOCKET");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (given)
        return set_text(client, given);
    if (environment && environment[0])
        return set_text(client, environment);
    if (runtime && runtime[0]) {
        char path[sizeof client->address];
        int length = snprintf(path, sizeof path, "%s/kvquantd.sock", runtime);
        if (length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0)
            return set_text(client, path);
    }
    return set_text(client, "/run/kvquantd/kvquantd.sock");
}

static int add_path(struct kvq_client *client) {
    struct sockaddr_un socket = {.sun_family = AF_UNIX};
    size_t bytes_max = sizeof socket.sun_path - 1;
    if (strlen(client->address) > bytes_max)
        return kvq_fail(client, KVQ_ARGUMENT, "the socket's path is longer than %zu bytes: %s",
                        bytes_max, client->address);
    memcpy(socket.sun_path, client->address, strlen(client->address) + 1);
    memcpy(&client->addresses[0].socket, &socket, sizeof socket);
    client->addresses[0].bytes = sizeof socket;
    client->address_count = 1;
    return KVQ_OK;
}

/* "host:port" or "[host]:port"; an address of IPv6 without brackets has no one meaning. */
static bool split(const char *text, char host[KVQ_ADDRESS_BYTES], const char **port) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1])
        return false;
    size_t host_bytes = (size_t)(colon - text);
    bool bracketed = text[0] == '[' && colon[-1] == ']' && host_bytes > 2;
    if (bracketed) {
        text++;
        host_bytes -= 2;
    } else if (memchr(text, ':', host_bytes) || text[0] == '[') {
        return false;
    }
    memcpy(host, text, host_bytes);
    host[host_bytes] = 0;
    *port = colon + 1;
    return true;
}

static int add_host(struct kvq_client *client) {
    const char *port;
    if (!split(client->address, client->host, &port))
        return kvq_fail(client, KVQ_ARGUMENT,
                        "\"%s\" is neither a path with a '/' in it nor host:port nor [::1]:port",
                        client->address);
    struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(client->host, port, &wanted, &found);
    if (error == EAI_SERVICE || error == EAI_NONAME)
        return kvq_fail(client, KVQ_CANNOT_CONNECT, "cannot connect to %s: no such host or port",
                        client->address);
    if (error)
        return kvq_fail(client, KVQ_CANNOT_CONNECT, "cannot connect to %s: %s", client->address,
                        gai_strerror(error));
    for (struct addrinfo *one = found; one && client->address_count < KVQ_ADDRESSES_MAX;
         one = one->ai_next) {
        struct kvq_address *address = &client->addresses[client->address_count++];
        memcpy(&address->socket, one->ai_addr, one->ai_addrlen);
        address->bytes = one->ai_addrlen;
    }
    freeaddrinfo(found);
    return KVQ_OK;
}

int kvq_find_addresses(struct kvq_client *client, const char *given) {
    int error = find_text(client, given);
    if (error)
        return error;
    return strchr(client->address, '/') ? add_path(client) : add_host(client);
}
