"""What a process can still do once it has given up its privileges: each test asks a child."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import ROOT
from wgpy.linux.sandbox import (
    CAP_NET_ADMIN,
    CAP_NET_BIND_SERVICE,
    CAP_NET_BROADCAST,
    DAEMON_CAPABILITIES,
)

pytestmark = pytest.mark.root

PRELUDE = """
import ctypes, errno, json, os, resource, socket, sys
from pathlib import Path
from wgpy.linux.sandbox import forbid_writing, keep_capabilities, no_core_dumps

def attempt(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def status():
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)

place = Path(sys.argv[1])
"""


def child(place: Path, code: str) -> dict[str, object]:
    """Run code after the prelude in a process of its own; what it put into `told`."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + "told = {}\n" + code + "\nprint(json.dumps(told))", place],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_the_daemon_keeps_three_capabilities() -> None:
    kept = {CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST}
    assert kept == DAEMON_CAPABILITIES


def test_three_capabilities_are_left_and_no_more_can_be_had(tmp_path: Path) -> None:
    told = child(
        tmp_path,
        """
keep_capabilities()
told["sets"] = [int(status()[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")]
told["none"] = [int(status()[name], 16) for name in ("CapInh", "CapAmb")]
told["no_new_privs"] = status()["NoNewPrivs"].strip()
told["chown"] = attempt(lambda: os.chown(place, 1, 1))
told["mark"] = attempt(lambda: socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 5))
told["setuid"] = attempt(lambda: os.setuid(1))
told["raw"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
keep_capabilities()
told["again"] = int(status()["CapEff"], 16)
""",
    )
    wanted = 1 << CAP_NET_ADMIN | 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_BROADCAST
    # Whoever runs the tests may have fewer to begin with.
    assert told["sets"][0] == told["sets"][1] == wanted  # type: ignore[index]
    assert told["sets"][2] in (wanted, told["sets"][2] & wanted)  # type: ignore[index]
    assert told["none"] == [0, 0]
    assert told["no_new_privs"] == "1"
    assert told["mark"] == "done"
    assert (told["chown"], told["setuid"], told["raw"]) == ("EPERM", "EPERM", "EPERM")
    assert told["again"] == wanted


def test_nothing_can_be_dumped_or_attached_to(tmp_path: Path) -> None:
    told = child(
        tmp_path,
        """
no_core_dumps()
told["core"] = resource.getrlimit(resource.RLIMIT_CORE)
told["dumpable"] = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
""",
    )
    assert told == {"core": [0, 0], "dumpable": 0}


def test_files_can_be_written_in_the_given_directories_only(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "there").write_text("content")
    told = child(
        tmp_path,
        """
before = open(place / "other" / "before", "w")
keep_capabilities()
told["supported"] = forbid_writing([place / "ours"])
ours, other = place / "ours", place / "other"
told["read"] = (other / "there").read_text()
told["list"] = len(os.listdir(other))
told["open already"] = attempt(lambda: (before.write("x"), before.flush()))
told["ours"] = [
    attempt(lambda: (ours / "file").write_text("x")),
    attempt(lambda: (ours / "dir").mkdir()),
    attempt(lambda: (ours / "file").unlink()),
    attempt(lambda: socket.socket(socket.AF_UNIX).bind(str(ours / "sock"))),
]
told["other"] = [
    attempt(lambda: (other / "there").write_text("x")),
    attempt(lambda: open(other / "there", "a")),
    attempt(lambda: (other / "new").write_text("x")),
    attempt(lambda: (other / "dir").mkdir()),
    attempt(lambda: (other / "there").unlink()),
    attempt(lambda: os.symlink("there", other / "link")),
    attempt(lambda: socket.socket(socket.AF_UNIX).bind(str(other / "sock"))),
    attempt(lambda: open("/proc/sys/net/ipv4/ip_forward", "w")),
    attempt(lambda: open("/etc/resolv.conf", "a")),
]
""",
    )
    if not told["supported"]:
        pytest.skip("this kernel has no Landlock")
    assert told["read"] == "content"
    assert told["list"] == 2
    assert told["open already"] == "done"
    assert told["ours"] == ["done"] * 4
    assert told["other"] == ["EACCES"] * 9
    assert (tmp_path / "other" / "there").read_text() == "content"


def test_the_daemon_may_write_where_its_peers_share_a_directory(tmp_path: Path) -> None:
    for name in ("shared", "other"):
        (tmp_path / name).mkdir()
    told = child(
        tmp_path,
        """
from wgpy.device import daemon
daemon._restrict(place / "shared")
told["supported"] = attempt(lambda: (place / "other" / "file").write_text("x")) == "EACCES"
written, final = place / "shared" / "written", place / "shared" / "final"
told["shared"] = attempt(lambda: (written.write_text("x"), written.rename(final)))
""",
    )
    if not told["supported"]:
        pytest.skip("this kernel has no Landlock")
    assert told["shared"] == "done"
    assert (tmp_path / "shared" / "final").read_text() == "x"


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    told = child(
        tmp_path,
        """
keep_capabilities()
fds = len(os.listdir("/proc/self/fd"))
told["missing"] = attempt(lambda: forbid_writing([place / "missing"]))
told["left open"] = len(os.listdir("/proc/self/fd")) - fds
told["write"] = attempt(lambda: (place / "file").write_text("x"))
""",
    )
    assert told == {"missing": "ENOENT", "left open": 0, "write": "done"}
