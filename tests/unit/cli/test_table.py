"""Tables: what gives way on a narrow terminal, and that nothing is ever too long."""

import pytest

from wgpy.cli import style
from wgpy.cli.table import Cell, Column, cut, table

COLUMNS = (
    Column("NAME", least=4),
    Column("AT", least=6, yields=1),
    Column("RTT", yields=2, right=True),
)
ROWS = [
    [Cell("laptop"), Cell("192.0.2.1:51820", style.GREEN), Cell("5 ms")],
    [Cell("a-long-name"), Cell(""), Cell("123 ms")],
]


def plain(width: int | None) -> list[str]:
    return [style.COLOUR.sub("", line) for line in table(COLUMNS, ROWS, width)]


def test_without_a_width_nothing_is_cut() -> None:
    assert plain(None) == [
        "NAME         AT                  RTT",
        "laptop       192.0.2.1:51820    5 ms",
        "a-long-name                   123 ms",
    ]


def test_the_widest_gives_way_first_and_then_whole_columns() -> None:
    assert plain(30)[2] == "a-long-n…               123 ms"
    assert plain(22) == [
        "NAME   AT          RTT",
        "lapt…  192.0.…    5 ms",
        "a-lo…           123 ms",
    ]
    assert plain(18) == ["NAME     AT", "laptop   192.0.2.…", "a-long…"]
    assert plain(8) == ["NAME", "laptop", "a-long-…"]


@pytest.mark.parametrize("width", range(1, 60))
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in plain(width))


def test_a_column_with_nothing_in_it_is_left_out() -> None:
    rows = [[Cell("a"), Cell(""), Cell("1 ms")]]
    assert style.COLOUR.sub("", table(COLUMNS, rows, None)[0]) == "NAME   RTT"


def test_colours_take_no_room() -> None:
    line = f"{style.RED}abc{style.RESET}def"
    assert style.COLOUR.sub("", cut(line, 4)) == "abcd"
    assert cut(line, 2).endswith(style.RESET)
