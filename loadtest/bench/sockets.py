"""A WebSocket backend that echoes: enough of RFC 6455 for small frames that no client splits. Bytes that came together are answered together."""

import base64
import hashlib
import selectors
import socket
import sys

SECRET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key):
    return base64.b64encode(hashlib.sha1((key + SECRET).encode()).digest()).decode()


def frame(payload, mask=False):
    """A text frame of at most 125 bytes. A client's is masked, here with zeros, which leave it as it is."""
    return bytes((0x81, len(payload) | (0x80 if mask else 0))) + (b"\0\0\0\0" if mask else b"") + payload


def unframe(data):
    """Payloads of whole frames in `data`, and what is left of it."""
    payloads = []
    while len(data) >= 2:
        masked, length = data[1] & 0x80, data[1] & 0x7F
        start = 6 if masked else 2
        if len(data) < start + length:
            break
        payloads.append(data[start:start + length])
        data = data[start + length:]
    return payloads, data


def main(address):
    host, port = address.split(":")
    listener = socket.create_server((host, int(port)), backlog=1024)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    # What each connection has sent and not finished, and those that have their WebSocket.
    rest, upgraded = {}, set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                rest[connection] = b""
                continue
            connection = key.fileobj
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if not data:
                selector.unregister(connection)
                connection.close()
                upgraded.discard(connection)
                del rest[connection]
                continue
            data = rest[connection] + data
            if connection in upgraded:
                payloads, rest[connection] = unframe(data)
                if payloads:
                    connection.sendall(b"".join(map(frame, payloads)))
                continue
            head, end, rest[connection] = data.partition(b"\r\n\r\n")
            if not end:
                rest[connection] = data
                continue
            fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
            key_sent = next((value for name, value in fields.items() if name.lower() == "sec-websocket-key"), "")
            connection.sendall((f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                f"Sec-WebSocket-Accept: {accept_key(key_sent)}\r\n\r\n").encode())
            upgraded.add(connection)


if __name__ == "__main__":
    main(sys.argv[1])
