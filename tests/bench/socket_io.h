/* Whole reads and writes on blocking stream sockets, and sockets with buffers of a given size. */
#ifndef TESTS_BENCH_SOCKET_IO_H
#define TESTS_BENCH_SOCKET_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void send_all(int socket, const void *bytes, size_t count);
/* False at the stream's end. */
bool receive_all(int socket, void *bytes, size_t count);

/* "unix" listens on path, "tcp" on a loopback port that *port is set to. */
int listen_on(const char *transport, const char *path, uint16_t *port);
int connect_to(const char *transport, const char *path, uint16_t port);

/* Asks for send and receive buffers of so many bytes (0: leaves the system's), and for no delay
 * where there is one. */
void tune_socket(int socket, int buffer_bytes);

#endif
