"""`wg setconf` and `wg showconf` on a real wireguard-go, beside what wgpy reads and writes."""

import pytest

from tests.support.netns import Pair
from tests.support.programs import WIREGUARD_GO, Interface
from tests.unit.config.samples import OTHER, PEER, PRIVATE, PSK
from wgpy.config.conf import parse
from wgpy.config.errors import ConfigError
from wgpy.config.write import conf_text

I = f"[Interface]\nPrivateKey={PRIVATE}\n"  # noqa: E741
P = f"[Peer]\nPublicKey={PEER}\n"
Q = f"[Peer]\nPublicKey={OTHER}\n"

# Read by both or refused by both.
SAME = [
    "",
    "\n\n# words\n",
    "[Interface]",
    "[INTERFACE]\r\nLISTENPORT = 1 2 3 4 5\r\n",
    "[ Inter face ]\n",
    I,
    I + "Private Key = " + PRIVATE[:20] + " " + PRIVATE[20:],
    I + "PrivateKey=",
    I + "PrivateKey",
    I + "PrivateKey = " + PRIVATE + "A",
    I + "PrivateKey = " + PRIVATE[:-2] + "9=",
    I + "PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "PrivateKey = " + PRIVATE,
    "[Interface] # words",
    "[Interface]x",
    "[Peers]",
    I + "ListenPort=0",
    I + "ListenPort=domain",
    I + "ListenPort=http-nothing",
    I + "ListenPort=",
    I + "ListenPort=1#2",
    I + "ListenPort=0x10",
    I + "ListenPort=007",
    I + "FwMark=off",
    I + "FwMark=0x",
    I + "FwMark=0X10",
    I + "FwMark=0x10",
    I + "FwMark=010",
    I + "FwMark=4294967295",
    I + "FwMark=4294967296",
    I + "FwMark=99999999999999999999999",
    I + "FwMark=-1",
    I + "FwMark=+1",
    I + "FwMark=",
    I + "Address=10.0.0.1/24",
    I + "MTU=1400",
    I + "PostUp=true",
    I + "SaveConfig=true",
    I + "Unknown=1",
    I + "=1",
    I + "PublicKey=" + PEER,
    P,
    P + P,
    P + I,
    "[Peer]",
    "[Peer]\nAllowedIPs=10.0.0.0/8",
    P + "PresharedKey=" + PSK,
    P + "PresharedKey=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    P + "PresharedKey=",
    P + "PersistentKeepalive=off",
    P + "PersistentKeepalive=OFF",
    P + "PersistentKeepalive=0",
    P + "PersistentKeepalive=65535",
    P + "PersistentKeepalive=65536",
    P + "PersistentKeepalive=007",
    P + "PersistentKeepalive=0x7",
    P + "PersistentKeepalive=-1",
    P + "PersistentKeepalive=",
    P + "AllowedIPs=",
    P + "AllowedIPs=,",
    P + "AllowedIPs=10.0.0.1",
    P + "AllowedIPs=10.0.0.1,",
    P + "AllowedIPs=10.0.0.1/8",
    P + "AllowedIPs=10.0.0.1/",
    P + "AllowedIPs=10.0.0.1/33",
    P + "AllowedIPs=10.0.0.1/08",
    P + "AllowedIPs=10.0.0.1/0008",
    P + "AllowedIPs=10.0.0.1/8/8",
    P + "AllowedIPs=10.0.0.1/+8",
    P + "AllowedIPs=10.0.0.1/255.0.0.0",
    P + "AllowedIPs=10.0.0/8",
    P + "AllowedIPs=010.0.0.1/8",
    P + "AllowedIPs= 1 0 .0.0.0/8, :: /0",
    P + "AllowedIPs=::/0,fd00::/129",
    P + "AllowedIPs=::ffff:10.0.0.1/128",
    P + "AllowedIPs=fe80::1%lo/64",
    P + "AllowedIPs=localhost/32",
    P + "AllowedIPs=10.0.0.0/8\nAllowedIPs=10.0.0.0/8",
    P + "AllowedIPs=10.0.0.0/8\n" + Q + "AllowedIPs=10.0.0.0/8",
    P + "Endpoint=192.0.2.1:51820",
    P + "Endpoint=[192.0.2.1]:51820",
    P + "Endpoint=[2001:db8::1]:51820",
    P + "Endpoint=2001:db8::1:51820",
    P + "Endpoint=[fe80::1%lo]:51820",
    P + "Endpoint=[2001:db8::1]51820",
    P + "Endpoint=[2001:db8::1:51820",
    P + "Endpoint=[2001:db8::1]:",
    P + "Endpoint=192.0.2.1",
    P + "Endpoint=192.0.2.1:",
    P + "Endpoint=:51820",
    P + "Endpoint=localhost:domain",
    P + "Endpoint=192.0.2.1:nothing",
    P + "Endpoint=",
    P + "MTU=1400",
    P + "ListenPort=1",
    P + "Endpoint",
]


@pytest.mark.root
@pytest.mark.tool("wg", "wireguard-go")
def test_setconf_and_wgpy_read_and_refuse_the_same(net: Pair) -> None:
    with Interface(net.left, WIREGUARD_GO) as device:
        differ = []
        for text in SAME:
            done = net.left.run(
                *("wg", "setconf", device.name, "/dev/stdin"),
                stdin=text,
                check=False,
                # wg(8) asks again and again for a service that it does not know.
                env={"WG_ENDPOINT_RESOLUTION_RETRIES": "0"},
            )
            try:
                parse(text, "wg")
                ours = True
            except ConfigError:
                ours = False
            if ours != (done.returncode == 0):
                differ.append((text, f"wgpy reads it: {ours}", done.stderr))
        assert differ == []


# Where wgpy differs, and means to: getaddrinfo cuts a port to 16 bits, and nothing is sent to
# port 0. Changes with a sign are read by the wg of 2025, and not by every older one.
STRICTER = [I + "ListenPort=65536", P + "Endpoint=192.0.2.1:0", P + "Endpoint=192.0.2.1:70000"]


def test_where_wgpy_is_stricter() -> None:
    for text in STRICTER:
        with pytest.raises(ConfigError, match="out of range"):
            parse(text, "wg")


# What one `setconf` of it leaves must be what wgpy understood of it.
MEANING = [
    I + "ListenPort=1000\nListenPort=2000\nFwMark=0x20",
    I + P + "AllowedIPs=10.0.0.1/8,fd00::1/64\nAllowedIPs=192.0.2.1",
    I + P + "AllowedIPs=10.0.0.0/8,::/0\n" + Q + "AllowedIPs=10.0.0.0/8",
    I + P + "AllowedIPs=10.0.0.0/8\n" + P + "AllowedIPs=::/0\nPersistentKeepalive=5",
    I + P + f"PresharedKey={PSK}\nEndpoint=192.0.2.1:1\n" + P + "Endpoint=[2001:DB8::0:1]:2",
    I + P + "PersistentKeepalive=5\nPersistentKeepalive=off",
]


@pytest.mark.root
@pytest.mark.tool("wg", "wireguard-go")
@pytest.mark.parametrize("text", MEANING, ids=range(len(MEANING)))
def test_setconf_leaves_what_wgpy_understood(net: Pair, text: str) -> None:
    def sections(shown: str) -> set[frozenset[str]]:
        found = set()
        for section in shown.split("\n\n"):
            # Allowed IPs are shown in an order of the implementation's own.
            lines = []
            for line in section.splitlines():
                key, _, value = line.partition(" = ")
                lines += [f"{key} = {part}" for part in value.split(", ")]
            found.add(frozenset(lines))
        return found

    config, _ = parse(text, "wg")
    with Interface(net.left, WIREGUARD_GO) as device:
        net.left.run("wg", "setconf", device.name, "/dev/stdin", stdin=text)
        first = device.wg("showconf")
        ours = conf_text(config, quick=False)
        if "ListenPort" not in text:
            first = "\n".join(x for x in first.split("\n") if "ListenPort" not in x)
        assert sections(first) == sections(ours.replace("2001:DB8::0:1", "2001:db8::1"))


@pytest.mark.root
@pytest.mark.tool("wg", "wireguard-go")
def test_the_text_is_byte_for_byte_that_of_showconf(net: Pair) -> None:
    text = (
        f"[Interface]\nListenPort = 51820\nFwMark = 0xca6c\nPrivateKey = {PRIVATE}\n\n"
        f"[Peer]\nPublicKey = {PEER}\nPresharedKey = {PSK}\nAllowedIPs = 10.0.0.0/8\n"
        "Endpoint = [2001:db8::1]:7\nPersistentKeepalive = 25\n"
    )
    with Interface(net.left, WIREGUARD_GO) as device:
        device.setconf(text)
        assert device.wg("showconf") == text == conf_text(parse(text, "wg")[0], quick=False)
        device.setconf("[Interface]\nFwMark = 1\n")
        shown = "".join(x for x in device.wg("showconf").splitlines(True) if "Port" not in x)
        assert shown == conf_text(parse("[Interface]\nFwMark = 1", "wg")[0], quick=False)
