"""What `wgpy show` and `showconf` print is what the real wg prints, byte for byte.

wireguard-go lists its peers in another order each time, and no daemon here would tell of handshakes
of long ago or of terabytes. So answers are played, the same to both commands, from sockets in a
directory that they see in the place of /var/run/wireguard.
"""

import contextlib
import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.netns import UAPI_DIRECTORY
from tests.support.requirements import program
from wgpy.cli.show import FIELDS

pytestmark = [pytest.mark.root, pytest.mark.tool("wg"), pytest.mark.tool("wgpy")]

Output = tuple[int, str, str]

# In a mount namespace of the command's own, so that nobody else sees it.
IN_DIRECTORY = (
    *("unshare", "--mount", "sh", "-c"),
    f'mount --bind "$0" {UAPI_DIRECTORY} && exec "$@"',
)


def run(tool: str, *words: str, sockets: Path | None = None, **env: str) -> Output:
    """Run `wg` or `wgpy`: exit code, output, errors. `sockets`: where it finds interfaces."""
    prefix = () if sockets is None else (*IN_DIRECTORY, str(sockets))
    done = subprocess.run(
        [*prefix, program(tool), *words],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, **env},
    )
    return done.returncode, done.stdout, done.stderr


def same(*words: str, sockets: Path | None = None, **env: str) -> str:
    """Assert that `wg` and `wgpy` print the same for the same words, and return it."""
    for _ in range(5):
        theirs = run("wg", *words, sockets=sockets, **env)
        ours = run("wgpy", *words, sockets=sockets, **env)
        # "2 seconds ago": the clock may have moved on between the two.
        if ours == theirs:
            break
    assert ours == theirs
    return ours[1]


@contextlib.contextmanager
def played(directory: Path, answers: Mapping[str, str]) -> Iterator[None]:
    """Sockets in `directory`, one for each interface, that give everyone the same answer."""
    UAPI_DIRECTORY.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(directory / f"{name}.sock"))
            listener.listen()
            thread = threading.Thread(target=play, args=(listener, answer.encode()))
            thread.start()
            stack.callback(thread.join)
            # Wakes accept(), which close() alone does not.
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield


def play(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        # A client that only looks whether somebody is there asks nothing.
        with connection, contextlib.suppress(ConnectionError):
            if connection.recv(4096):
                connection.sendall(answer)


def peer(number: int, **values: object) -> str:
    lines = [f"public_key={number:064x}", f"preshared_key={values.pop('psk', 0):064x}"]
    lines += ["protocol_version=1", *(f"{key}={value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def moments() -> Iterator[str]:
    """Peers whose last handshake was at every kind of distance, in no order."""
    now = int(time.time())
    distances = (3, 59, 60, 61, 3_600, 90_061, 86_400, 365 * 86_400, 800 * 86_400 + 7_322, -1_000)
    for number, distance in enumerate(distances, 1):
        yield peer(number, last_handshake_time_sec=now - distance, last_handshake_time_nsec=number)
    yield peer(90, last_handshake_time_sec=0, last_handshake_time_nsec=0)
    # Of the same second, and of the same moment.
    yield peer(91, last_handshake_time_sec=now - 60, last_handshake_time_nsec=999_999_999)
    yield peer(92, last_handshake_time_sec=now - 60, last_handshake_time_nsec=3)


def volumes() -> Iterator[str]:
    sizes = (
        0,
        1,
        1_023,
        1_024,
        1_536,
        1_048_575,
        1_048_576,
        2**30 - 1,
        2**40,
        3 * 2**41,
        2**64 - 1,
    )
    for number, size in enumerate(sizes, 1):
        yield peer(number, rx_bytes=size, tx_bytes=sizes[-number])


DEVICE = f"private_key={'a8' + 'aa' * 30 + '6a'}\nlisten_port=51820\nfwmark=51820\n"
PEERS = (
    peer(1, psk=5, endpoint="192.0.2.1:51820", persistent_keepalive_interval=25)
    + "allowed_ip=10.0.0.0/8\nallowed_ip=::ffff:10.0.0.1/128\nallowed_ip=::/0\n"
    + peer(2, endpoint="[2001:db8::1]:1", persistent_keepalive_interval=3_661)
    + peer(3, endpoint="[fe80::1%lo]:9", persistent_keepalive_interval=65_535)
    + "allowed_ip=fd00::1/128\n"
)
DONE = "errno=0\n\n"
UNKNOWN = "wgpy_counter=dropped_replay 3\nunknown_key=1\n"
ANSWERS = {
    "nothing": "",
    "device": DEVICE,
    "no key": "listen_port=7\n" + PEERS,
    "peers": DEVICE + PEERS,
    "moments": DEVICE + "".join(moments()),
    "volumes": DEVICE + "".join(volumes()),
    "unknown keys": UNKNOWN + DEVICE + PEERS,
}
FORMS = [(), *((field,) for field in FIELDS)]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
def test_every_form_of_show_is_that_of_wg(answer: str, tmp_path: Path) -> None:
    with played(tmp_path, {"wg0": answer + DONE}):
        for form in FORMS:
            same("show", "wg0", *form, sockets=tmp_path)
        same("showconf", "wg0", sockets=tmp_path)
        for colour, keys in (("always", "never"), ("never", "always"), ("auto", "x")):
            same("show", "wg0", sockets=tmp_path, WG_COLOR_MODE=colour, WG_HIDE_KEYS=keys)


def test_all_interfaces_are_shown_as_wg_shows_them(tmp_path: Path) -> None:
    answers = {"wg0": DEVICE + PEERS + DONE, "wg1": DONE, "wg-2.x": DEVICE + DONE}
    with played(tmp_path, answers):
        same(sockets=tmp_path)
        names = same("show", "interfaces", sockets=tmp_path).split()
        for form in FORMS:
            if form != ("endpoints",):
                same("show", "all", *form, sockets=tmp_path)
        # wg 1.0.20210914 names the interface once there, and not in front of each peer.
        lines = [
            f"{name}\t{line}\n"
            for name in names
            for line in run("wg", "show", name, "endpoints", sockets=tmp_path)[1].splitlines()
        ]
        assert run("wgpy", "show", "all", "endpoints", sockets=tmp_path)[1] == "".join(lines)
    assert set(names) == answers.keys()


def test_no_interfaces_are_shown_as_wg_shows_them(tmp_path: Path) -> None:
    for words in ((), ("show",), ("show", "all", "dump"), ("show", "interfaces")):
        assert same(*words, sockets=tmp_path) == ""


@pytest.mark.parametrize("code", [errno.EPERM, errno.EIO])
def test_a_refusal_is_told_as_wg_tells_it(code: int, tmp_path: Path) -> None:
    with played(tmp_path, {"wg0": f"errno={code}\n\n"}):
        theirs = run("wg", "show", "wg0", sockets=tmp_path)
        ours = run("wgpy", "show", "wg0", sockets=tmp_path)
    assert (theirs[0], theirs[1]) == (ours[0], ours[1]) == (1, "")
    reason = theirs[2].strip().removeprefix("Unable to access interface: ")
    assert f"Unable to access interface wg0: {reason}" in ours[2]


def test_the_real_wg_reads_what_we_add(tmp_path: Path) -> None:
    with_ours = DEVICE.replace("fwmark", "wgpy_version=1\ndatapath=native\nfwmark")
    with_ours += UNKNOWN + PEERS + "endpoint_name=vpn.example.org:51820\n"
    plain, more = tmp_path / "plain", tmp_path / "more"
    for directory, answer in ((plain, DEVICE + PEERS), (more, with_ours)):
        directory.mkdir()
        with played(directory, {"wg0": answer + DONE}):
            shown = [run("wg", "show", "wg0", *form, sockets=directory) for form in FORMS]
            ours = run("wgpy", "show", "wg0", sockets=directory)[1]
        if directory == plain:
            expected = shown
    assert shown == expected
    assert "  daemon: wgpy 1\n  data path: native\n" in ours
    assert "  endpoint name: vpn.example.org:51820\n" in ours
