"""WGPY_DATAPATH chooses the data path."""

import pytest

from wgpy.datapath import choose
from wgpy.datapath.choose import VARIABLE, chosen_name
from wgpy.datapath.contract import DataPathError


def test_portable_is_always_there(monkeypatch):
    monkeypatch.setenv(VARIABLE, "portable")
    assert chosen_name() == "portable"


@pytest.mark.parametrize("choice", [None, "auto"])
@pytest.mark.parametrize("built", [True, False])
def test_auto_takes_the_native_path_wherever_it_was_built(monkeypatch, choice, built):
    monkeypatch.delenv(VARIABLE, raising=False)
    if choice is not None:
        monkeypatch.setenv(VARIABLE, choice)
    monkeypatch.setattr(choose, "has_native", lambda: built)
    assert chosen_name() == ("native" if built else "portable")


def test_native_is_refused_where_it_was_not_built(monkeypatch):
    monkeypatch.setenv(VARIABLE, "native")
    monkeypatch.setattr(choose, "has_native", lambda: False)
    with pytest.raises(DataPathError, match="no native data path"):
        chosen_name()


@pytest.mark.parametrize("choice", ["fast", "", "Portable"])
def test_a_wrong_choice_is_refused_with_the_right_ones(monkeypatch, choice):
    monkeypatch.setenv(VARIABLE, choice)
    with pytest.raises(DataPathError, match="auto, native, portable"):
        chosen_name()
