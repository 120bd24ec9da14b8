"""WGPY_DATAPATH chooses the data path."""

import pytest

from wgpy.datapath.choose import VARIABLE, chosen_name
from wgpy.datapath.contract import DataPathError


@pytest.mark.parametrize("choice", ["auto", "portable"])
def test_the_portable_path_is_what_there_is(monkeypatch, choice):
    monkeypatch.setenv(VARIABLE, choice)
    assert chosen_name() == "portable"


def test_auto_is_the_default(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen_name() == "portable"


@pytest.mark.parametrize("choice", ["fast", "", "Portable"])
def test_a_wrong_choice_is_refused_with_the_right_ones(monkeypatch, choice):
    monkeypatch.setenv(VARIABLE, choice)
    with pytest.raises(DataPathError, match="auto, native, portable"):
        chosen_name()
