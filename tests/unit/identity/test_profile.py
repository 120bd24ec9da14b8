"""Names and addresses, beside what says the same at greater length."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.identity.profile import is_name, is_unicast, under, within
from wgpy.ip import Prefix, mask

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NOT_UNICAST = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    )
]


def slowly(text: str) -> bool:
    """`is_name` label by label."""
    labels = text.split(".")
    return (
        len(text) <= 253
        and all(LABEL.fullmatch(label) for label in labels)
        and not re.fullmatch(r"[0-9]+", labels[-1])
    )


@given(st.one_of(st.text("ab09-.", max_size=12), st.text(max_size=20)))
def test_a_name_is_labels_and_the_last_is_no_number(text: str) -> None:
    assert is_name(text) == slowly(text)


@given(st.lists(st.integers(61, 65).map(lambda size: "a" * size), min_size=1, max_size=5))
def test_a_label_and_a_name_have_a_length(labels: list[str]) -> None:
    text = ".".join(labels)
    assert is_name(text) == slowly(text)


@pytest.mark.parametrize("text", ["a\n", "a.1", "1.a", "1", "10.7.0.2", "a.1-1", "a..b", ".a", ""])
def test_names_at_the_edge(text: str) -> None:
    assert is_name(text) == slowly(text) == (text in ("1.a", "a.1-1"))


ADDRESSES = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16),
    # First and last of each, and their neighbours.
    st.sampled_from(NOT_UNICAST).flatmap(
        lambda network: st.sampled_from(
            [network.network_address, network.broadcast_address]
        ).flatmap(
            lambda edge: st.integers(-1, 1).map(
                lambda step: ((int(edge) + step) % (1 << edge.max_prefixlen)).to_bytes(
                    edge.max_prefixlen // 8, "big"
                )
            )
        )
    ),
)


@given(ADDRESSES)
def test_an_address_is_one_machine_s(address: bytes) -> None:
    parsed = ipaddress.ip_address(address)
    assert is_unicast(address) == (not any(parsed in network for network in NOT_UNICAST))


@given(ADDRESSES, st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=4))
def test_within_is_what_it_is_elsewhere(address: bytes, others: list[tuple[bytes, int]]) -> None:
    def prefix(raw: bytes, length: int) -> Prefix:
        return Prefix(mask(raw, length % (8 * len(raw) + 1)), length % (8 * len(raw) + 1))

    outers = [prefix(raw, length) for raw, length in others]
    inner = Prefix(address, 8 * len(address))
    for found in (inner, *outers):
        network = ipaddress.ip_network(str(found))
        assert within(found, outers) == any(
            network.version == outer.version and network.subnet_of(ipaddress.ip_network(str(outer)))
            for outer in outers
        )


@pytest.mark.parametrize(
    ("name", "suffixes", "found"),
    [
        ("a.mesh", ("mesh",), True),
        ("mesh", ("mesh",), True),
        ("amesh", ("mesh",), False),
        ("a.mesh", ("other", "a.mesh"), True),
        ("a.mesh", (), False),
        ("mesh", ("a.mesh",), False),
    ],
)
def test_under_goes_by_labels(name: str, suffixes: tuple[str, ...], found: bool) -> None:
    assert under(name, suffixes) is found
