"""`wgpy up` of a file with credentials, on a real kernel: all of it or nothing, and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wait_until
from tests.support.quick import Quick, machine, new_private_key, new_public_key
from tests.support.requirements import program

pytestmark = [pytest.mark.root, pytest.mark.tool("nft", "ip", "wg", "wgpyd")]

AUTHORITY = f"""
[authority]
network = "{"00" * 16}"
accept = "10.7.0.0/16"
ca = "ca.pem"
"""


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


def a_file(space: Namespace, place: Path, more: str, daemon: str = "wgpyd") -> Quick:
    """An interface of a TOML file with one peer, an empty ca.pem beside it."""
    quick = Quick(space, place, daemon)
    quick.config = place / f"{quick.name}.toml"
    quick.config.write_text(
        f'[interface]\nprivate_key = "{new_private_key()}"\naddress = "10.7.0.1/24"\n{more}\n'
        f'[[peer]]\npublic_key = "{new_public_key()}"\nallowed_ips = "10.9.0.2/32"\n'
    )
    quick.config.chmod(0o600)
    (place / "ca.pem").touch()
    return quick


def test_a_file_without_credentials_has_none(space: Namespace, tmp_path: Path) -> None:
    before = machine(space)
    quick = a_file(space, tmp_path, "")
    try:
        quick.up()
        dump = space.run(program("wg"), "show", quick.name, "dump").stdout
        assert len(dump.splitlines()) == 2
    finally:
        quick.down()
    assert machine(space) == before


def test_an_authority_that_cannot_be_is_told_and_everything_undone(
    space: Namespace, tmp_path: Path
) -> None:
    before = machine(space)
    quick = a_file(space, tmp_path, AUTHORITY)
    said = quick.fail("up")
    assert f" failed: Unable to modify interface {quick.name}: " in said
    assert "Invalid argument" not in said, "the daemon's own reason is told"
    assert "everything was undone" in said
    assert machine(space) == before


def test_the_same_beside_a_daemon_that_runs_already(space: Namespace, tmp_path: Path) -> None:
    before = machine(space)
    quick = a_file(space, tmp_path, AUTHORITY)
    space.run(program("wgpyd"), quick.name)
    try:
        assert "everything was undone" in quick.fail("up", "--attach")
        show = space.run(program("wg"), "show", quick.name).stdout
        assert "peer" not in show, "nothing of a refused request is done"
        # Without the authority the same daemon takes the rest.
        quick.config.write_text(quick.config.read_text().replace(AUTHORITY, ""))
        quick.up("--attach")
        assert "10.9.0.2/32" in space.run(program("wg"), "show", quick.name).stdout
        quick.down("--attach")
    finally:
        space.ip("link", "delete", "dev", quick.name)
    wait_until(lambda: machine(space) == before, "the daemon's end")


@pytest.mark.tool("wireguard-go")
def test_a_daemon_that_knows_no_credentials_is_not_brought_up(
    space: Namespace, tmp_path: Path
) -> None:
    before = machine(space)
    quick = a_file(space, tmp_path, AUTHORITY, "wireguard-go")
    said = quick.fail("up")
    assert "its daemon knows no credentials; only wgpyd takes [authority]" in said
    assert machine(space) == before
