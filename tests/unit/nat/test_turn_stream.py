"""TURN over TCP and TLS, on the loopback: connect, carry, drop, break, come back, close."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.turn_listener import NAME, Listener, make_certificate, until
from tests.support.turn_server import ALICE, PEER
from wgpy.nat import turn_wire
from wgpy.nat.channel_data import FIRST_CHANNEL, pack_channel_data, parse_channel_data
from wgpy.nat.stun import Method
from wgpy.nat.turn import State, TurnClient
from wgpy.nat.turn_credentials import fixed
from wgpy.nat.turn_events import Allocated, Bound, Event, Lost, Reason
from wgpy.nat.turn_stream import SEND_BUFFER, TurnStream
from wgpy.nat.turn_tls import Trust, TrustError, key_hash, make_context
from wgpy.nat.turn_wire import StreamServer, plain_socket


class End:
    """A stream, its client, and the data path's end of the carrier."""

    def __init__(self, listener: Listener, trust: Trust | None = None, name: str = NAME) -> None:
        self.events: list[Event] = []
        self.client = TurnClient(listener.place, fixed(ALICE), os.urandom, stream=True)
        server = StreamServer(listener.place, trust, name)
        self.stream = TurnStream(server, self.client, self.events.append)
        self.carrier = socket.socket(fileno=self.stream.take_carrier())
        self.carrier.setblocking(False)

    def said(self, kind: type[Event]) -> list[Any]:
        return [x for x in self.events if isinstance(x, kind)]

    def got(self) -> list[bytes]:
        """What the data path was given."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.carrier.recv(70000))
        return found

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.stream.run())
        try:
            yield
            self.stream.close()
            async with asyncio.timeout(20):
                await task
            assert self.client.state is State.CLOSED
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.carrier.close()


def run(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(case())


@contextlib.asynccontextmanager
async def connected(listener: Listener, **options: Any) -> AsyncIterator[End]:
    """A stream with a channel to PEER."""
    async with listener.listening():
        end = End(listener, **options)
        async with end.running():
            end.client.bind(PEER, 0.0)
            await until(lambda: end.said(Bound), "a channel")
            yield end


def test_datagrams_go_both_ways_unpadded_here_and_padded_there() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            for data in (b"a", b"bcd", b"efgh", b"", b"x" * 1400):
                end.carrier.send(pack_channel_data(FIRST_CHANNEL, data))
            found: list[bytes] = []
            await until(lambda: found.extend(end.got()) or len(found) == 5, "five back")
            assert [parse_channel_data(x).data for x in found] == [
                *(b"A", b"BCD", b"EFGH", b"", b"X" * 1400)
            ]
            assert found[0] == pack_channel_data(FIRST_CHANNEL, b"A")
            assert end.stream.counters["carried"] == end.stream.counters["received"] == 5
        assert listener.server.allocation is None
        assert listener.server.count(Method.REFRESH) == 1

    run(case)


def test_messages_that_come_byte_by_byte_are_put_together() -> None:
    async def case() -> None:
        listener = Listener()
        listener.pieces = True
        async with connected(listener) as end:
            end.carrier.send(pack_channel_data(FIRST_CHANNEL, b"hello"))
            await until(lambda: end.got() == [pack_channel_data(FIRST_CHANNEL, b"HELLO")], "it")

    run(case)


def test_a_large_flow_arrives_whole_and_in_order() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            found: list[bytes] = []
            for number in range(2000):
                with contextlib.suppress(BlockingIOError):
                    end.carrier.send(pack_channel_data(FIRST_CHANNEL, b"%06d" % number * 200))
                if number % 10 == 0:
                    await asyncio.sleep(0.001)
                found += [parse_channel_data(x).data[:6] for x in end.got()]
            await until(
                lambda: (
                    found.extend(parse_channel_data(x).data[:6] for x in end.got())
                    or len(found)
                    >= end.stream.counters["carried"] - end.stream.counters["carrier_full"]
                ),
                "all of them",
            )
            assert found == sorted(found)
            assert len(found) > 500

    run(case)


def test_a_stream_that_is_congested_drops_and_keeps_little() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            listener.is_deaf = True
            datagram = pack_channel_data(FIRST_CHANNEL, bytes(1400))
            # More than the kernel's buffers of both sides hold.
            for _ in range(20000):
                with contextlib.suppress(BlockingIOError):
                    end.carrier.send(datagram)
                if end.stream.counters["congested"] > 1000:
                    break
                await asyncio.sleep(0)
            assert end.stream.counters["congested"] > 1000
            assert SEND_BUFFER - 1500 < len(end.stream._unsent) <= SEND_BUFFER
            # What the client says is not dropped.
            end.client.check(1e9)
            end.stream.pump()
            listener.is_deaf = False
            await until(lambda: listener.server.count(Method.REFRESH) == 1, "a refresh")
            assert len(listener.channel_data) == end.stream.counters["carried"]

    run(case)


def test_what_is_no_channel_data_is_not_carried() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            for datagram in (b"", b"abc", b"\x40\x00\x00\x05four", b"\x00\x01\x00\x00" + bytes(16)):
                end.carrier.send(datagram)
            end.carrier.send(pack_channel_data(FIRST_CHANNEL, b"x"))
            await until(end.got, "the good one")
            assert end.stream.counters["carrier_malformed"] == 4
            assert len(listener.channel_data) == 1

    run(case)


def test_a_data_path_that_is_slow_or_gone_stops_nothing() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            big = pack_channel_data(FIRST_CHANNEL, bytes(1400), padded=True)
            for _ in range(40):
                listener.send(big * 20)
                await asyncio.sleep(0.002)
            await until(lambda: end.stream.counters["carrier_full"], "a full carrier")
            assert len(end.got()) == end.stream.counters["received"]
            end.carrier.close()
            listener.send(big)
            await until(lambda: end.stream.counters["carrier_closed"], "a closed carrier")
            assert end.client.state is State.ALLOCATED

    run(case)


def test_a_server_that_closes_is_connected_to_again() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            await listener.hang_up()
            await until(lambda: len(end.said(Bound)) == 2, "another channel")
            assert [x.reason for x in end.said(Lost)] == [Reason.DISCONNECTED]
            assert listener.connections == 2
            assert end.stream.counters["broken"] == 1
            assert end.stream.trouble == "it closed the connection"
            end.carrier.send(pack_channel_data(FIRST_CHANNEL, b"again"))
            await until(end.got, "an echo")

    run(case)


@pytest.mark.parametrize("garbage", [b"\x80" * 8, b"\x00\x01\x00\x03", b"SSH-2.0-x\r\n"])
def test_what_cannot_be_told_apart_ends_the_connection(garbage: bytes) -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            listener.send(garbage)
            await until(lambda: end.said(Lost), "a loss")
            await until(lambda: len(end.said(Bound)) == 2, "another channel")
            assert end.stream.counters["broken"] == 1

    run(case)


def test_a_port_where_nobody_listens_is_tried_ever_more_rarely() -> None:
    async def case() -> None:
        listener = Listener()
        async with listener.listening():
            pass
        end = End(listener)
        async with end.running():
            await until(lambda: len(end.said(Lost)) == 3, "three failures")
            first, second, third = (x.again for x in end.said(Lost))
            assert third - second > second - first > 0.5
            assert end.stream.counters["connect_failed"] == 3
            assert end.stream.trouble == "Connection refused"
            # It comes up.
            async with listener.listening():
                end.stream.network_changed()
                await until(lambda: end.said(Allocated), "an allocation")

    run(case)


def test_a_server_that_accepts_and_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(turn_wire, "CONNECT_TIME", 0.1)

    async def case() -> None:
        # It wants no TLS, so it waits for TURN, and we wait for its part of a handshake.
        listener = Listener()
        async with listener.listening():
            end = End(listener, Trust(make_certificate(tmp_path)))
            async with end.running():
                await until(lambda: end.said(Lost), "a loss")
                assert end.stream.counters["connect_failed"] == 1

    run(case)


def test_close_does_not_wait_for_a_connection(tmp_path: Path) -> None:
    async def case() -> None:
        listener = Listener()
        async with listener.listening():
            end = End(listener, Trust(make_certificate(tmp_path)))
            async with end.running():
                await until(lambda: listener.connections, "a connection")
            assert end.stream.counters["connect_failed"] == 0
            assert end.stream.counters["connected"] == 0

    run(case)


def test_a_run_that_is_cancelled_gives_everything_back(tmp_path: Path) -> None:
    async def case() -> None:
        before = len(os.listdir("/proc/self/fd"))
        for trust in (None, Trust(make_certificate(tmp_path))):
            listener = Listener()
            async with listener.listening():
                end = End(listener, trust)
                task = asyncio.get_running_loop().create_task(end.stream.run())
                await until(lambda listener=listener: listener.connections, "a connection")
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                end.carrier.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(case)


def test_an_address_that_is_gone_ends_its_connection() -> None:
    async def case() -> None:
        listener = Listener()
        async with connected(listener) as end:
            end.stream.network_changed()
            assert end.said(Lost) == []

            class Gone(socket.socket):
                def bind(self, address: Any) -> None:
                    raise OSError(errno.EADDRNOTAVAIL, "no such address")

            end.stream._open_socket = Gone
            end.stream.network_changed()
            end.stream._open_socket = plain_socket
            await until(lambda: len(end.said(Bound)) == 2, "another channel")
            assert end.stream.counters["broken"] == 1

    run(case)


# --- TLS ---


def test_tls_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    async def case() -> None:
        certificate = make_certificate(tmp_path)
        listener = Listener(certificate)
        async with connected(listener, trust=Trust(certificate)) as end:
            assert listener.alpn == "stun.turn"
            assert end.stream.alpn == "stun.turn"
            found: list[bytes] = []
            for size in (1, 1400, 60000):
                end.carrier.send(pack_channel_data(FIRST_CHANNEL, b"a" * size))
            await until(lambda: found.extend(end.got()) or len(found) == 3, "three back")
            assert [len(x) for x in found] == [5, 1404, 60004]
            await listener.hang_up()
            await until(lambda: len(end.said(Bound)) == 2, "another channel")

    run(case)


def test_a_server_without_alpn_will_do(tmp_path: Path) -> None:
    async def case() -> None:
        certificate = make_certificate(tmp_path)
        listener = Listener(certificate, alpn=None)
        async with connected(listener, trust=Trust(certificate)) as end:
            assert end.stream.alpn is None

    run(case)


def hash_of(certificate: Path) -> bytes:
    """The pin, as the library computes it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def test_a_pinned_key_needs_neither_chain_nor_name(tmp_path: Path) -> None:
    async def case() -> None:
        certificate = make_certificate(tmp_path)
        pins = frozenset({bytes(32), hash_of(certificate)})
        async with connected(Listener(certificate), trust=Trust(pins=pins), name="other") as end:
            assert end.client.state is State.ALLOCATED

    run(case)


def test_a_server_that_is_not_the_trusted_one_is_told_nothing(tmp_path: Path) -> None:
    async def case() -> None:
        certificate = make_certificate(tmp_path)
        other = make_certificate(tmp_path, "other.example.org")
        for trust, name in (
            (Trust(other), NAME),
            (Trust(certificate), "other.example.org"),
            (Trust(certificate), "127.0.0.1"),
            # The machine's store does not know it.
            (Trust(), NAME),
            (Trust(pins=frozenset({hash_of(other)})), NAME),
        ):
            listener = Listener(certificate)
            async with listener.listening():
                end = End(listener, trust, name)
                async with end.running():
                    await until(lambda end=end: end.said(Lost), "a loss")
                assert end.stream.counters["connect_failed"] >= 1
                assert re.match(
                    "(its certificate is not trusted: |the server's key)", end.stream.trouble
                )
                assert listener.server.heard == []

    run(case)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(TrustError, match=path.name):
            make_context(Trust(path))


def test_the_hash_of_a_key_is_the_librarys(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    assert key_hash(der) == hash_of(pem)
    for end in range(len(der)):
        with pytest.raises(TrustError):
            key_hash(der[:end])
