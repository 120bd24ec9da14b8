"""Allowed IPs against a list that is searched from end to end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wgpy.datapath.allowedips import AllowedIps
from wgpy.datapath.contract import AllowedIpOperation
from wgpy.ip import Prefix, mask

PEERS = (1, 2, 3)


class Model:
    """(prefix, owner) pairs; looking one up compares bit strings."""

    def __init__(self):
        self.pairs = {}

    def apply(self, changes):
        for operation, peer, prefix in changes:
            if operation == "replace":
                self.pairs = {p: owner for p, owner in self.pairs.items() if owner != peer}
            elif operation == "add":
                self.pairs[prefix] = peer
            elif self.pairs.get(prefix) == peer:
                del self.pairs[prefix]

    def lookup(self, address):
        best, owner = -1, None
        for prefix, peer in self.pairs.items():
            same_family = len(prefix.address) == len(address)
            if same_family and bits(address).startswith(bits(prefix.address)[: prefix.length]):
                best, owner = max((best, owner), (prefix.length, peer), key=lambda pair: pair[0])
        return owner


def bits(address):
    return "".join(f"{byte:08b}" for byte in address)


# Few distinct bytes, so that prefixes nest, meet and repeat.
some_bytes = st.sampled_from([0, 1, 2, 127, 128, 255])
addresses = st.one_of(
    st.lists(some_bytes, min_size=4, max_size=4).map(bytes),
    st.lists(some_bytes, min_size=2, max_size=2).map(lambda two: bytes([0xFD, *two]) + bytes(13)),
    st.lists(some_bytes, min_size=16, max_size=16).map(bytes),
)


@st.composite
def prefixes(draw):
    address = draw(addresses)
    length = draw(st.integers(0, len(address) * 8))
    return Prefix(mask(address, length), length)


operations = st.one_of(
    st.builds(AllowedIpOperation, st.just("add"), st.sampled_from(PEERS), prefixes()),
    st.builds(AllowedIpOperation, st.just("add"), st.sampled_from(PEERS), prefixes()),
    st.builds(AllowedIpOperation, st.just("remove"), st.sampled_from(PEERS), prefixes()),
    st.builds(AllowedIpOperation, st.just("replace"), st.sampled_from(PEERS), st.none()),
)


@given(st.lists(st.lists(operations, max_size=6), max_size=12), st.lists(addresses, max_size=8))
@settings(max_examples=300, deadline=None)
def test_every_batch_leaves_what_the_model_has(batches, asked):
    table, model = AllowedIps(), Model()
    known = []
    for batch in batches:
        # Removing what was added before is otherwise rare.
        again = [AllowedIpOperation("remove", c.peer, c.prefix) for c in known[-1:] if c.prefix]
        table.apply([*batch, *again])
        model.apply([*batch, *again])
        known += batch
        # The same addresses after every batch: a remembered answer that has changed would show.
        inside = [change.prefix.address for change in known if change.prefix is not None]
        for address in (*asked, *inside):
            assert table.lookup(address) == model.lookup(address)
        for peer in PEERS:
            owned = [prefix for prefix, owner in model.pairs.items() if owner == peer]
            assert table.of(peer) == sorted(owned, key=lambda p: (len(p.address), *p))
        for prefix in inside:
            assert table.lookup(prefix) == model.lookup(prefix)


@settings(deadline=None)
@given(st.lists(operations, max_size=20), st.sampled_from(PEERS), st.lists(addresses, max_size=8))
def test_a_forgotten_peer_owns_nothing(changes, gone, asked):
    table, model = AllowedIps(), Model()
    table.apply(changes)
    for address in asked:
        table.lookup(address)
    table.forget(gone)
    model.apply([*changes, AllowedIpOperation("replace", gone)])
    assert table.of(gone) == []
    for address in asked:
        assert table.lookup(address) == model.lookup(address)
