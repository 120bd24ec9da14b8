"""What `save` writes: a pure function of file, daemon, link and journal."""

from pathlib import Path

from wgpy.config.conf import parse
from wgpy.config.model import Config, EndpointSpec
from wgpy.config.write import conf_text
from wgpy.device.uapi import Address, DeviceState, PeerState
from wgpy.ip import parse_address
from wgpy.keys import PrivateKey, PublicKey
from wgpy.quick.journal import Journal
from wgpy.quick.save import merge
from wgpy.quick.steps import SetMark

KEY = PublicKey(bytes(range(32)))
FILE = """[Interface]
Address = 10.2.0.1/24, 10.1.0.1/24
DNS = 10.1.0.53, lan
PostUp = echo %i # kept
Table = 77
"""


def _config(text: str = FILE) -> Config:
    return parse(text, "quick")[0]


def _state(mark: int = 0) -> DeviceState:
    private = PrivateKey(bytes(range(1, 33)))
    return DeviceState(private_key=private, listen_port=4000, fwmark=mark)


def test_keys_and_port_are_the_daemons_and_the_rest_is_the_files() -> None:
    saved = merge(_config(), _state(), [], 1420, None).interface
    assert saved.private_key == _state().private_key
    assert saved.listen_port == 4000
    assert saved.dns == ("10.1.0.53",)
    assert saved.dns_search == ("lan",)
    assert saved.post_up == ("echo %i # kept",)
    assert saved.table == 77


def test_addresses_are_the_links_in_the_files_order() -> None:
    texts = [("10.1.0.1", 24), ("10.9.0.1", 32), ("10.2.0.1", 24), ("fe80::1", 64)]
    link = [(parse_address(text), length) for text, length in texts]
    saved = merge(_config(), _state(), link, 1420, None).interface
    assert [str(address) for address in saved.addresses] == [
        *("10.2.0.1/24", "10.1.0.1/24", "10.9.0.1/32")
    ]


def test_a_link_local_address_of_the_file_stays() -> None:
    config = _config("[Interface]\nAddress = fe80::1/64\n")
    saved = merge(config, _state(), [(parse_address("fe80::1"), 64)], 1420, None)
    assert saved.interface.addresses == config.interface.addresses


def test_the_mtu_is_written_only_where_the_file_had_one() -> None:
    assert merge(_config(), _state(), [], 1300, None).interface.mtu is None
    config = _config("[Interface]\nMTU = 1400\n")
    assert merge(config, _state(), [], 1300, None).interface.mtu == 1300


def test_a_mark_that_up_chose_is_left_out_and_anothers_kept(tmp_path: Path) -> None:
    journal = Journal("wg0", tmp_path, "", steps=[SetMark("wg0", 51820)])
    assert merge(_config(), _state(51820), [], 1420, journal).interface.fwmark is None
    assert merge(_config(), _state(51821), [], 1420, journal).interface.fwmark == 51821
    assert merge(_config(), _state(51820), [], 1420, None).interface.fwmark == 51820


def test_an_endpoint_that_was_a_name_stays_one() -> None:
    state = _state()
    state.peers = [
        PeerState(KEY, endpoint=Address("192.0.2.1", 5), endpoint_name=("vpn.example", 5)),
        PeerState(PublicKey(bytes(32)), endpoint=Address("192.0.2.2", 6)),
    ]
    saved = merge(_config(), state, [], 1420, None)
    assert [peer.endpoint for peer in saved.peers] == [
        EndpointSpec("vpn.example", 5),
        EndpointSpec("192.0.2.2", 6),
    ]
    assert "Endpoint = vpn.example:5" in conf_text(saved, quick=True)


def test_who_came_in_by_a_credential_is_not_saved() -> None:
    state = _state()
    guest = PeerState(
        KEY, endpoint=Address("192.0.2.1", 5), endpoint_name=("vpn.example", 5), admitted=True
    )
    state.peers = [guest, PeerState(PublicKey(bytes(32)))]
    saved = merge(_config(), state, [], 1420, None)
    assert [peer.public_key for peer in saved.peers] == [PublicKey(bytes(32))]
    assert "SaveConfig" not in conf_text(saved, quick=True)
    assert KEY.base64() not in conf_text(saved, quick=True)
