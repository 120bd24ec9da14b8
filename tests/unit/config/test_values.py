"""What single values are refused and read, where a whole file is no better test."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.config import values
from wgpy.config.values import (
    BadValueError,
    parse_dns,
    parse_endpoint,
    parse_fwmark,
    parse_interface_address,
    parse_keepalive,
    parse_mtu,
    parse_port,
    parse_table,
    shown,
)

PARSERS = (
    parse_dns,
    parse_endpoint,
    parse_fwmark,
    parse_interface_address,
    parse_keepalive,
    parse_mtu,
    parse_port,
    parse_table,
)


@given(st.text(max_size=30) | st.text("0123456789abx.:[]%/-~offautoh", max_size=30))
def test_any_text_is_a_value_or_a_bad_value(text: str) -> None:
    for parse in PARSERS:
        reason = "nothing is wrong"
        try:
            parse(text)
        except BadValueError as error:
            reason = error.reason
        assert reason
        assert reason.isprintable()


@given(st.integers(0, 65_535))
def test_ports_and_keepalives(number: int) -> None:
    assert parse_port(str(number)) == number
    assert parse_keepalive(str(number)) == number
    assert parse_fwmark(hex(number)) == parse_fwmark(str(number)) == number


def test_an_empty_port() -> None:
    with pytest.raises(BadValueError, match="the port is empty; write a number"):
        parse_port("")


@pytest.mark.parametrize("text", ["[fe80::1%]:1", "[fe80::1%a b]:1", "[fe80::1%eth0%1]:1"])
def test_scopes_that_are_none(text: str) -> None:
    with pytest.raises(BadValueError, match="no address and no host name"):
        parse_endpoint(text)


def test_tables_that_iproute2_has_names_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rt_tables").write_text(
        "# words\n\n100 office # ours\n 0x64 hexadecimal\n0 unspec\n101 two words\nx y\n"
        "200\toffice\n"
    )
    monkeypatch.setattr(
        values, "_TABLE_FILES", (str(tmp_path / "missing"), str(tmp_path / "rt_tables"))
    )
    assert parse_table("office") == 100
    assert parse_table("main") == 254
    for name in ("unspec", "two", "hexadecimal", "y", "Office", "100x"):
        with pytest.raises(BadValueError, match="no routing table"):
            parse_table(name)


def test_long_values_are_cut_in_messages() -> None:
    assert shown("a" * 60) == repr("a" * 60)
    assert shown("a" * 61) == repr("a" * 57 + "...")
    assert shown("\x1b[2J\u202e").isprintable()
