"""What the doctor prints."""

import json

import pytest

from wgpy.cli import main
from wgpy.doctor.finding import Finding, Status
from wgpy.doctor.words import as_json, report, verdict

FINE = Finding("TUN", Status.OK, "it opens")
BAD = Finding("TUN", Status.MISSING, "not there", "nothing goes", "modprobe tun", vital=True)
MEEK = Finding("nft", Status.MISSING, "not there", "no default route", "apt-get install nftables")


def test_report_has_status_fact_meaning_and_mend() -> None:
    lines = report("6.12", [FINE, BAD]).splitlines()
    assert lines[2] == "ok       TUN         it opens"
    assert lines[3] == "missing  TUN         not there"
    assert lines[4].strip() == "nothing goes"
    assert lines[5].strip() == "-> modprobe tun"


def test_verdict_names_what_is_vital() -> None:
    assert verdict([FINE, MEEK]).startswith("A tunnel can run")
    assert verdict([BAD, MEEK]) == "No tunnel can run here yet: mend TUN."


def test_json_has_everything() -> None:
    told = json.loads(json.dumps(as_json("6.12", [BAD])))
    assert told["can_run"] is False
    assert told["findings"][0] == {
        "name": "TUN",
        "status": "missing",
        "fact": "not there",
        "meaning": "nothing goes",
        "mend": "modprobe tun",
        "vital": True,
    }


def test_command_agrees_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["can_run"] else 1)
