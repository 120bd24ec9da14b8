"""A network is founded whole or not at all, and coordinated from a second machine."""

import contextlib
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.postgres import Postgres
from wgpy.identity import ca
from wgpy.identity.jwks import Issuers
from wgpy.identity.leaf import read_leaf
from wgpy.identity.profile import within
from wgpy.identity.settings import Limits, TokenIssuer
from wgpy.ip import parse_prefix
from wgpy.keys import PrivateKey
from wgpy.mesh import coordinator_files, founding
from wgpy.mesh.addresses import nodes_range6
from wgpy.mesh.coordinator_files import CoordinatorFiles, FilesError
from wgpy.mesh.founding import FoundingError, Plan, found
from wgpy.mesh.place import Membership, Place
from wgpy.mesh.promoting import promote
from wgpy.mesh.store import Store

WALL = 1_800_000_000.0
NETWORK = bytes(range(16))
PLAN = Plan(
    interface="wg7",
    network=NETWORK,
    name="gate.mesh",
    domain="mesh",
    range4=parse_prefix("10.7.0.0/16"),
    endpoints=("192.0.2.1:51820",),
)


def make(state: Path, **changed: object) -> founding.Founded:
    """Found it."""
    return found(replace(PLAN, **changed), state, lambda: WALL)  # type: ignore[arg-type]


def files_of(directory: Path) -> list[Path]:
    """Every file below a directory."""
    return sorted(x for x in directory.rglob("*") if x.is_file())


def test_everything_is_there(tmp_path: Path) -> None:
    founded = make(tmp_path)
    place = Place("wg7", tmp_path)
    membership = place.membership()
    assert (membership.name, membership.coordinator, membership.port) == ("gate.mesh", True, 51820)
    own, between, anchors = place.papers()
    leaf = read_leaf(own)
    assert (leaf.name, leaf.key) == ("gate.mesh", place.key().public())
    assert leaf.rights.groups == (founding.OWN_GROUP,)
    files = coordinator_files.read("wg7", tmp_path)
    issuer = coordinator_files.open_issuer(files)
    assert (issuer.authority.der, issuer.root.der) == (between[0], anchors[0])
    tokens = coordinator_files.open_tokens(files)
    jwks = str(files.tokens.parent / "issuers.jwks")
    issuers = Issuers.load([TokenIssuer(jwks, Limits(("mesh",), (), ()))])
    assert issuers.get(tokens.kid) is not None
    with contextlib.closing(Store(files.store)) as store:
        (coordinator,) = store.settings().coordinators
        assert coordinator.key == place.key().public()
        assert coordinator.endpoints == ("192.0.2.1:51820",)
        assert [x.name for x in store.nodes()] == ["gate.mesh"]
        assert store.settings() == founded.settings
    assert place.directory_text() is not None


def test_nothing_is_for_others_to_read(tmp_path: Path) -> None:
    make(tmp_path)
    assert stat.S_IMODE((tmp_path / "wg7.mesh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "wg7.root").stat().st_mode) == 0o700
    public = {"ca.pem", "parent.pem", "crl.pem"}
    open_files = [
        x for x in files_of(tmp_path) if x.stat().st_mode & 0o077 and x.name not in public
    ]
    assert open_files == []


def test_the_intermediate_is_limited(tmp_path: Path) -> None:
    """Path length 0, this network's names and addresses, these groups, no route and no exit."""
    make(tmp_path, groups=("laptops",), routes=(parse_prefix("192.168.0.0/16"),))
    authority = coordinator_files.open_issuer(coordinator_files.read("wg7", tmp_path)).authority
    assert authority.path_length == 0
    assert authority.constraints.permits_name("x.mesh")
    assert not authority.constraints.permits_name("x.elsewhere")
    assert authority.constraints.permits_address(parse_prefix("10.7.3.1"))
    assert not authority.constraints.permits_address(parse_prefix("10.8.0.1"))
    assert authority.rights is not None
    assert authority.rights.groups == ("laptops",)
    assert authority.rights.prefixes == (parse_prefix("192.168.0.0/16"),)
    plain = tmp_path / "plain"
    make(plain)
    bare = coordinator_files.open_issuer(coordinator_files.read("wg7", plain)).authority
    assert bare.rights is not None
    assert not within(parse_prefix("192.168.0.0/16"), bare.rights.prefixes)


def test_the_root_opens_with_its_passphrase(tmp_path: Path) -> None:
    founded = make(tmp_path)
    assert founded.root_passphrase == tmp_path / "wg7.root" / "passphrase"
    with ca.Issuer(founded.root) as root:
        root.unlock(founded.root_passphrase.read_bytes().strip())
    other = tmp_path / "other"
    known = make(other, passphrase=b"of the operator", root=tmp_path / "medium")
    assert known.root_passphrase is None
    with ca.Issuer(tmp_path / "medium") as root:
        root.unlock(b"of the operator")


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "gate.elsewhere"},
        {"range4": parse_prefix("8.8.8.0/24")},
        {"groups": ("No Group",)},
        {"endpoints": ("nowhere at all",)},
        {"store": "mysql://x"},
        {"validity": 1},
        {"stun": ("?",)},
        {"passphrase": b"short"},
    ],
)
def test_what_cannot_be_founded_leaves_nothing(tmp_path: Path, changed: dict[str, object]) -> None:
    with pytest.raises(FoundingError) as refused:
        make(tmp_path, **changed)
    assert "\n" not in str(refused.value)
    assert files_of(tmp_path) == []
    assert make(tmp_path).node.name == "gate.mesh"


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    make(tmp_path)
    before = {x: x.read_bytes() for x in files_of(tmp_path)}
    with pytest.raises(FoundingError, match="in a network already"):
        make(tmp_path)
    (tmp_path / "wg7.mesh" / "mesh.json").unlink()
    with pytest.raises(FoundingError, match="is there already"):
        make(tmp_path)
    after = {x: x.read_bytes() for x in files_of(tmp_path)}
    assert {x: y for x, y in before.items() if x.name != "mesh.json"} == after


def test_a_store_that_has_a_network_is_not_taken(tmp_path: Path) -> None:
    make(tmp_path, store=str(tmp_path / "store"))
    with pytest.raises(FoundingError, match="mesh coordinate"):
        make(tmp_path / "second", store=str(tmp_path / "store"))
    assert files_of(tmp_path / "second") == []


# --- Its files ---


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version":2,"store":"x","ca":"/a","signer":null,"tokens":"/t","port":7100}',
        '{"version":1,"store":"x","ca":null,"signer":null,"tokens":"/t","port":7100}',
        '{"version":1,"store":"x","ca":"/a","signer":"/b","tokens":"/t","port":7100}',
        '{"version":1,"store":"x","ca":"a","signer":null,"tokens":"/t","port":7100}',
        '{"version":1,"store":"x","ca":"/a","signer":null,"tokens":"/t","port":0}',
        '{"version":1,"store":"","ca":"/a","signer":null,"tokens":"/t","port":7100}',
    ],
)
def test_files_are_as_they_have_to_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "wg7.mesh").mkdir()
    (tmp_path / "wg7.mesh" / "coordinator.json").write_text(text)
    with pytest.raises(FilesError, match=r"coordinator\.json"):
        coordinator_files.read("wg7", tmp_path)


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="mesh init"):
        coordinator_files.read("wg7", tmp_path)
    (tmp_path / "wg7.mesh").mkdir()
    for files in (
        CoordinatorFiles("postgresql://mesh@db/mesh", Path("/t"), ca=Path("/ca")),
        CoordinatorFiles("/store", Path("/t"), signer=Path("/run/signer.sock"), port=7_200),
    ):
        coordinator_files.write("wg7", files, tmp_path)
        assert coordinator_files.read("wg7", tmp_path) == files


def test_the_next_intermediate_is_told_before_it_signs(tmp_path: Path) -> None:
    founded = make(tmp_path)
    files = coordinator_files.read("wg7", tmp_path)
    assert coordinator_files.others(files) == ()
    assert founded.root_passphrase is not None
    ranges = (founded.settings.range4, nodes_range6(founded.settings.range6))
    with ca.Issuer(founded.root) as root:
        root.unlock(founded.root_passphrase.read_bytes().strip())
        request = ca.AuthorityRequest("next", NETWORK, Limits(("mesh",), ranges), days=365)
        authority = ca.create(tmp_path / "next", request, b"correct horse", WALL, root)
    place = files.tokens.parent / "others.pem"
    place.write_bytes((tmp_path / "next" / "ca.pem").read_bytes())
    assert coordinator_files.others(files) == (authority.der,)
    for text in (b"", b"nothing", place.read_bytes() * 4):
        place.write_bytes(text)
        with pytest.raises(FilesError, match="others"):
            coordinator_files.others(files)


# --- A second coordinator ---


def join(state: Path, store: Store, issuing: CoordinatorFiles, name: str) -> PrivateKey:
    """A node as one that has joined."""
    private = PrivateKey(bytes([7]) * 32)
    issuer = coordinator_files.open_issuer(issuing)
    node = store.add(name, private.public(), (), time.time(), issuer.issue)
    place = Place("wg7", state)
    assert node.certificate is not None
    place.set_papers(node.certificate, (issuer.authority.der,), (issuer.root.der,))
    place.make(private, Membership("wg7", NETWORK, "mesh", name=name))
    return private


@pytest.mark.tool("pg_ctl")
def test_a_node_becomes_a_coordinator_too(postgres: Postgres, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with postgres.database() as url:
        found(replace(PLAN, store=url), first)
        files = coordinator_files.read("wg7", first)
        source = coordinator_files.directory("wg7", first)
        with contextlib.closing(Store(url)) as store:
            private = join(second, store, files, "other.mesh")
            assert promote("wg7", source, url, ("192.0.2.2:51820",), state=second) == "other.mesh"
            found_names = {x.name: x.key for x in store.settings().coordinators}
            assert found_names["other.mesh"] == private.public()
            assert set(found_names) == {"gate.mesh", "other.mesh"}
        assert Place("wg7", second).membership().coordinator
        theirs = coordinator_files.read("wg7", second)
        one, other = map(coordinator_files.open_issuer, (files, theirs))
        assert one.authority.der == other.authority.der
        assert coordinator_files.open_tokens(theirs).kid == coordinator_files.open_tokens(files).kid
        assert not (theirs.tokens.parent / "issuing" / "ledger").exists()
        # Again is the same.
        promote("wg7", source, url, ("192.0.2.2:51820",), state=second)


def test_who_is_no_node_of_it_does_not_become_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make(first)
    source = coordinator_files.directory("wg7", first)
    store = coordinator_files.read("wg7", first).store
    with pytest.raises(FoundingError):
        promote("wg7", source, store, ("192.0.2.2:5",), state=second)
    place = Place("wg7", second)
    place.make(PrivateKey(bytes([7]) * 32), Membership("wg7", NETWORK, "mesh", name="other.mesh"))
    with pytest.raises(FoundingError, match="another store"):
        promote("wg7", source, store, ("192.0.2.2:5",), state=second)
    with pytest.raises(FoundingError, match="there is none"):
        promote("wg7", tmp_path, store, ("192.0.2.2:5",), state=second)
    assert not place.membership().coordinator
    with contextlib.closing(Store(store)) as opened:
        assert len(opened.settings().coordinators) == 1
