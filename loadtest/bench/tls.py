"""TLS from the client's side: handshakes, and connections that are kept."""

import socket
import ssl
import time
from contextlib import contextmanager

from .load import read_message

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
# Where one of several protocols is meant, by ALPN's name of it.
HTTP1, HTTP2 = "http/1.1", "h2"
# Of HTTP/2: a client's preface, empty settings, and the confirmation of the server's; frame types and flags (RFC 9113 section 6).
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\0\4\1\0\0\0\0"
DATA, HEADERS, END_STREAM, END_HEADERS = 0, 1, 1, 4


def context(protocol=HTTP1, version=None):
    """Offers one protocol, and one version unless either will do. Who the server is isn't the question."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    return made


class Client:
    """A connection after its handshake. Whatever goes wrong is an `OSError`."""

    def __init__(self, port, host, offer=None, session=None):
        self.host, plain = host, socket.create_connection(("127.0.0.1", port), timeout=10)
        # Else the first request waits until the handshake's last piece is acknowledged.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.connection = (offer or context()).wrap_socket(plain, server_hostname=host, session=session)
        except BaseException:
            plain.close()
            raise

    def close(self):
        self.connection.close()

    def get(self):
        """One request, and its whole answer."""
        if self.connection.selected_alpn_protocol() == HTTP2:
            return self.get_by_http2()
        self.connection.sendall(f"GET / HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        if read_message(self.connection) is None:
            raise OSError("the connection was closed instead of an answer")

    def get_by_http2(self):
        # GET, https, and / from HPACK's static table, and the authority as it is.
        head = b"\x82\x87\x84\x01" + bytes([len(self.host)]) + self.host.encode()
        self.connection.sendall(GREETING + len(head).to_bytes(3, "big") + bytes([HEADERS, END_STREAM | END_HEADERS]) + b"\0\0\0\1" + head)
        kind, flags = None, 0
        while kind != DATA or not flags & END_STREAM:
            header = self.exactly(9)
            kind, flags = header[3], header[4]
            self.exactly(int.from_bytes(header[:3], "big"))

    def exactly(self, count):
        got = b""
        while len(got) < count:
            piece = self.connection.recv(count - len(got))
            if not piece:
                raise OSError("the connection was closed within an answer")
            got += piece
        return got


def handshakes(port, host, version, resumed, seconds):
    """One handshake after the other, each on a new connection that has no request; with a session of before, or without."""
    offer, session = context(version=version), None
    if resumed:
        first = Client(port, host, offer)
        # Its ticket comes before the answer.
        first.get()
        session = first.connection.session
        first.close()
    count, failed, start = 0, 0, time.monotonic()
    while time.monotonic() < start + seconds:
        count += 1
        try:
            client = Client(port, host, offer, session)
        except OSError:
            failed += 1
            continue
        failed += client.connection.session_reused != resumed
        client.close()
    took = time.monotonic() - start
    return {"requests": count, "seconds": took, "failed": failed, "rate": count / took}


@contextmanager
def idle(port, host, count, protocol):
    """Connections that have had one answer each, and are kept."""
    offer, clients = context(protocol), []
    try:
        for _ in range(count):
            clients.append(Client(port, host, offer))
            clients[-1].get()
        yield clients
    finally:
        for client in clients:
            client.close()


@contextmanager
def stuck(port, host, count):
    """Connections that get nowhere, so many of each kind: silent ones, half a handshake, and half of HTTP/2's preface."""
    hello, preface = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh", GREETING[:20]
    offer, held = context(HTTP2), []
    try:
        for words in [b""] * count + [hello] * count:
            held.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            held[-1].sendall(words)
        for _ in range(count):
            held.append(Client(port, host, offer).connection)
            held[-1].sendall(preface)
        yield
    finally:
        for connection in held:
            connection.close()
