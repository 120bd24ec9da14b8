"""What wgpyd makes of its command line, before it makes anything else."""

from pathlib import Path

import pytest

from wgpy.device import daemon


def test_the_directory_that_it_may_write_to(tmp_path: Path) -> None:
    arguments = daemon._parse(["--signal", str(tmp_path), "wg0"])
    assert (arguments.interface, arguments.signal) == ("wg0", tmp_path)
    assert daemon._parse(["wg0"]).signal is None


def test_a_directory_that_is_none_is_told_of_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["wgpyd", "--signal", str(tmp_path / "none"), "wg0"])
    assert daemon.main() == 1
    assert capsys.readouterr().err == f"wgpyd: wg0: {tmp_path}/none is no directory\n"
