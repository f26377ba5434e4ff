"""Autobahn's WebSocket test suite on Python 3: wstest.py spec SPEC.json, or wstest.py echo.

Autobahn|Testsuite 25.10.1 is written for Python 2; the install script beside this file translates its syntax. What is left is that its literals are
octets, as they were there: here they are text, whose characters stand for octets (Latin-1), until they meet what takes octets. Nothing else of the suite
is changed: its cases, its client and its verdicts are its own.
"""

import binascii
import functools
import json
import sys

import autobahn.websocket.utf8validator as utf8validator


def octets(value):
    """What Python 2 would have had in the place of a literal, or of what is made of literals."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, (list, tuple)):
        return [octets(part) for part in value]
    return value


def text(value):
    """A result as JSON can have it: without octets, in keys or anywhere else."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [text(part) for part in value]
    if isinstance(value, dict):
        return {text(key): text(part) for key, part in value.items()}
    return value


class Validator(utf8validator.Utf8Validator):
    """One that takes literals: the cases of 6.* ask which of their payloads are valid."""

    def validate(self, payload):
        return super().validate(octets(payload))


# Both are used while the suite is imported: the cases' descriptions have payloads in hexadecimal.
utf8validator.Utf8Validator = Validator
b2a_hex = binascii.b2a_hex
binascii.b2a_hex = lambda data: b2a_hex(octets(data)).decode()
from autobahntestsuite import fuzzing, testee  # noqa: E402: after what it needs
from autobahntestsuite.case.case import Case  # noqa: E402

binascii.b2a_hex = b2a_hex
from twisted.internet import reactor  # noqa: E402: the suite chooses which


def excerpt(data, maxlen=64, show=lambda data: data.decode()):
    """For reports: text where it is that, and else hexadecimal."""
    data = octets(data)
    shortened, rest = (data[:maxlen], " ...") if len(data) > maxlen - 4 else (data, "")
    try:
        return show(shortened) + rest
    except UnicodeDecodeError:
        return "0x" + shortened.hex() + rest


class Protocol(fuzzing.FuzzingClientProtocol):
    """The suite's client, whose cases send literals."""

    def sendFrame(self, opcode, payload=b"", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        payload = octets(payload)
        if payload_len is not None:
            # The payload again and again, up to this length: Autobahn divides for it, which means something else here.
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        super().sendFrame(opcode, payload, fin, rsv, mask, None, chopsize, sync)

    def sendMessage(self, payload, *arguments, **named):
        super().sendMessage(octets(payload), *arguments, **named)

    def sendMessageFrameData(self, payload, *arguments, **named):
        return super().sendMessageFrameData(octets(payload), *arguments, **named)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, octets(reasonUtf8), isReply)

    def logRxFrame(self, frameHeader, payload):
        super().logRxFrame(frameHeader, [b"".join(payload).decode("latin-1")])


def adapt():
    """Puts these in the places of the suite's own."""
    fuzzing.FuzzingClientProtocol = Protocol
    fuzzing.asciiLogData = excerpt
    fuzzing.binLogData = functools.partial(excerpt, show=bytes.hex)
    # It compares what the two look like pickled; literals would never look like what came through a socket.
    Case.compare = lambda _, left, right: octets(left) == octets(right)
    log = fuzzing.FuzzingFactory.logCase
    fuzzing.FuzzingFactory.logCase = lambda factory, results: log(factory, text(results))
    # As JSON alone: nobody looks at the pages.
    fuzzing.FuzzingFactory.createReports = functools.partialmethod(fuzzing.FuzzingFactory.createReports, produceHtml=False)


def main(mode, *arguments):
    adapt()
    if mode == "echo":
        # No port: one in the Host header would have to be the same, and that is the proxy's.
        factory = testee.TesteeServerFactory(None)
        print(reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port, flush=True)
    else:
        with open(arguments[0], encoding="utf-8") as spec:
            fuzzing.startClient(json.load(spec))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
