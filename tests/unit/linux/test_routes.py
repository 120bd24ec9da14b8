"""Rules as ip(8) writes them. What the kernel makes of them is tested in tests/system."""

import pytest

from wgpy.linux.netlink import NetlinkError, family_of
from wgpy.linux.routes import MAIN_TABLE, Rule


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(4, 32765, 51820, not_mark=51820), "not fwmark 51820 table 51820"),
        (Rule(6, 32764, MAIN_TABLE, suppress_default=True), "table main suppress_prefixlength 0"),
        (Rule(4, 1, 7), "table 7"),
    ],
)
def test_rules_read_as_in_ip(rule: Rule, words: str) -> None:
    assert rule.words() == words


def test_a_kernel_error_is_one_line_with_what_was_asked() -> None:
    error = NetlinkError(17, "ip route add 10.0.0.0/8 dev wg0")
    assert str(error) == "ip route add 10.0.0.0/8 dev wg0: File exists"
    assert error.code == 17


def test_families() -> None:
    assert (family_of(4), family_of(6)) == (2, 10)
