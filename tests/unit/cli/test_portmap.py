"""What `wgpy portmap` prints, for what may have been found."""

import json

import pytest

from wgpy.cli import main
from wgpy.cli.portmap import as_json, report
from wgpy.nat.mapping import Service
from wgpy.nat.portmap_look import AtGateway, Found, Network, Services

HOME = Network("192.168.1.1", "192.168.1.50", 2)
V6 = Network("fe80::1", "2a00:5::50", 2)
EVERYTHING = {
    Service.PCP: Found(11_700),
    Service.NAT_PMP: Found(11_700, "11.0.0.7"),
    Service.UPNP: Found(None, "11.0.0.7"),
}


def test_everything() -> None:
    services = Services(
        AtGateway(HOME, EVERYTHING, "http://192.168.1.1:5000/root.xml"),
        AtGateway(V6, {Service.PCP: Found(0)}, "", "it is only for private IPv4 addresses"),
    )
    assert report(services) == (
        "router 192.168.1.1, and we are 192.168.1.50\n"
        "  PCP      yes, up for 3 hours\n"
        "  NAT-PMP  yes, up for 3 hours\n"
        "  UPnP     yes\n"
        "  its external address is 11.0.0.7\n"
        "  A port can be asked for, so that peers reach this machine directly.\n"
        "\n"
        "router fe80::1, and we are 2a00:5::50\n"
        "  PCP      yes\n"
        "  A port can be asked for, so that peers reach this machine directly."
    )
    found = json.loads(json.dumps(as_json(services)))
    assert found["ipv4"] == {
        "router": "192.168.1.1",
        "own": "192.168.1.50",
        "external": "11.0.0.7",
        "double_nat": False,
        "services": {
            "PCP": {"epoch": 11_700, "refusal": None},
            "NAT-PMP": {"epoch": 11_700, "refusal": None},
            "UPnP": {"epoch": None, "refusal": None},
        },
        "upnp_description": "http://192.168.1.1:5000/root.xml",
        "upnp_not_asked": None,
    }
    assert found["ipv6"]["external"] is None


def test_nothing() -> None:
    assert report(Services(None, None)).startswith("This machine has no router")
    assert as_json(Services(None, None)) == {"ipv4": None, "ipv6": None}
    text = report(Services(AtGateway(HOME, {}, "", "miniupnpc is not installed"), None))
    assert text == (
        "router 192.168.1.1, and we are 192.168.1.50\n"
        "  PCP      no\n"
        "  NAT-PMP  no\n"
        "  UPnP     not asked: miniupnpc is not installed\n"
        "  It forwards no ports, or has that switched off."
    )


def test_a_double_nat_is_said() -> None:
    at = AtGateway(HOME, {Service.NAT_PMP: Found(1, "100.64.0.9")})
    assert "That address is private: there is another NAT" in report(Services(at, None))
    assert as_json(Services(at, None))["ipv4"]["double_nat"] is True


def test_a_refusal_is_said() -> None:
    at = AtGateway(HOME, {Service.NAT_PMP: Found(1, "", "the router has no external address now")})
    text = report(Services(at, None))
    assert "NAT-PMP  the router has no external address now, up for 1 second" in text
    assert text.endswith("It forwards no ports now.")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["portmap", f"--port={port}"]) == 1
    assert "port" in capsys.readouterr().err
