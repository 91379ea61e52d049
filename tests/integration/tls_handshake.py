"""A client's TLS by hand, so that a test can stop it after any byte, or have it change its keys."""

import ctypes
import ctypes.util
import ssl

from wire import connect


class Handshake:
    """A client's side over a plain socket: `flight()` is what it has to send next."""

    def __init__(self, address, context, timeout=60):
        self.socket = connect(address, timeout)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flight(self):
        """What is to be sent, after all that it waits for has come; b"" after the last."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if sent := self.outgoing.read():
                return sent
            if self.tls.version() and self.tls.cipher() and self.is_done():
                return b""
            self.incoming.write(self.socket.recv(1 << 16))

    def is_done(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False

    def finish(self):
        while sent := self.flight():
            self.socket.sendall(sent)

    def record(self, data):
        """What carries these bytes once the handshake is over."""
        self.tls.write(data)
        return self.outgoing.read()


class Libssl:
    """A connection by libssl itself, for what Python's ssl leaves out: changing the keys."""

    REQUESTED = 1  # SSL_KEY_UPDATE_REQUESTED: the other side is to change its keys, too

    def __init__(self, address, authority, certificate):
        self.library = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for name in "TLS_client_method", "SSL_CTX_new", "SSL_new":
            getattr(self.library, name).restype = ctypes.c_void_p
        self.socket = connect(address, None)
        self.context = ctypes.c_void_p(self.library.SSL_CTX_new(ctypes.c_void_p(self.library.TLS_client_method())))
        self.check(self.library.SSL_CTX_use_certificate_file(self.context, str(certificate.certificate).encode(), 1))
        self.check(self.library.SSL_CTX_use_PrivateKey_file(self.context, str(certificate.key).encode(), 1))
        self.check(self.library.SSL_CTX_load_verify_locations(self.context, str(authority.certificate).encode(), None))
        self.library.SSL_CTX_set_alpn_protos(self.context, b"\x05kvq/1", 6)
        self.ssl = ctypes.c_void_p(self.library.SSL_new(self.context))
        self.library.SSL_set_fd(self.ssl, self.socket.fileno())
        self.check(self.library.SSL_connect(self.ssl))

    @staticmethod
    def check(status):
        assert status == 1

    def change_keys(self):
        """False once the daemon has closed the connection."""
        return self.library.SSL_key_update(self.ssl, self.REQUESTED) == 1 and \
            self.library.SSL_do_handshake(self.ssl) == 1

    def sendall(self, data):
        assert self.library.SSL_write(self.ssl, bytes(data), len(data)) == len(data)

    def recv_into(self, view):
        buffer = ctypes.create_string_buffer(len(view))
        count = max(0, self.library.SSL_read(self.ssl, buffer, len(view)))
        view[:count] = buffer.raw[:count]
        return count

    def close(self):
        self.library.SSL_free(self.ssl)
        self.library.SSL_CTX_free(self.context)
        self.socket.close()
