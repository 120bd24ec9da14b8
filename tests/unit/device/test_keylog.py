"""The key log: whose keys, in which words, and who may read it."""

import base64
import os
import stat

import pytest

from tests.unit.device.kit import PRIVATE, Kit, Stranger
from wgpy.device.device import Device
from wgpy.device.keylog import KeyLog
from wgpy.device.uapi import DeviceChange
from wgpy.keys import PresharedKey
from wgpy.protocol.handshake import Local, Remote


def read(path):
    lines = [line.split(" = ") for line in path.read_text().splitlines()]
    return [(name, base64.b64decode(value)) for name, value in lines]


def test_four_lines_for_a_handshake(tmp_path):
    path = tmp_path / "keys"
    other = Local(type(PRIVATE)(b"o" * 32))
    remote = Remote(Local(PRIVATE), other.public, PresharedKey(b"p" * 32))
    log = KeyLog(path)
    log.write(PRIVATE, remote, b"e" * 32)
    remote.psk = None
    log.write(PRIVATE, remote, b"f" * 32)
    log.close()
    expected = [
        ("LOCAL_STATIC_PRIVATE_KEY", bytes(PRIVATE)),
        ("REMOTE_STATIC_PUBLIC_KEY", bytes(other.public)),
        ("LOCAL_EPHEMERAL_PRIVATE_KEY", b"e" * 32),
        ("PRESHARED_KEY", b"p" * 32),
    ]
    assert read(path)[:4] == expected
    assert [value for _, value in read(path)[6:]] == [b"f" * 32, bytes(32)]


def test_only_its_owner_may_read_it(tmp_path):
    umask = os.umask(0)
    try:
        KeyLog(tmp_path / "keys").close()
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_it_is_appended_to_and_not_inherited(tmp_path):
    path = tmp_path / "keys"
    path.write_text("before\n")
    log = KeyLog(path)
    assert not os.get_inheritable(log._fd)
    log.write(PRIVATE, Remote(Local(PRIVATE), PRIVATE.public(), None), b"e" * 32)
    log.close()
    assert path.read_text().startswith("before\n")


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        KeyLog(tmp_path / "no" / "keys")


def test_both_roles_log_the_ephemeral_key_that_they_used(tmp_path):
    log = KeyLog(tmp_path / "keys")
    kit = Kit(private=None)
    kit.device = Device(
        kit.path,
        kit._bind,
        clock=lambda: kit.path.now,
        wall_ns=kit.wall_ns,
        random=kit.random,
        keylog=log,
    )
    kit.device.apply(DeviceChange(private_key=PRIVATE))
    kit.up()
    stranger = Stranger(kit)
    stranger.befriend("10.0.0.1", endpoint=True, persistent_keepalive=25)
    kit.settle()
    ((initiation, _),) = kit.sent(1)
    stranger.send(stranger.initiation())
    kit.settle()
    ((response, _),) = kit.sent(2)
    log.close()
    entries = read(tmp_path / "keys")
    assert len(entries) == 8
    secrets = [value for name, value in entries if name == "LOCAL_EPHEMERAL_PRIVATE_KEY"]
    publics = [Local(type(PRIVATE)(secret)).public for secret in secrets]
    assert [bytes(public) for public in publics] == [initiation[8:40], response[12:44]]
