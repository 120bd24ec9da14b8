"""Fuzz both configuration formats: whatever the text, only ConfigError comes out.

    python tests/fuzz/fuzz_config.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses the format and
the mode, the rest is the file. A .conf file that is read is written again, and must read as the
same.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wgpy"]):
    from wgpy.config import conf, toml
    from wgpy.config.draft import Mode
    from wgpy.config.errors import ConfigError
    from wgpy.config.model import Config
    from wgpy.config.write import conf_text, strip_conf
    from wgpy.keys import PresharedKey

HEADS = (
    "",
    "[authority]\n",
    '[identity]\ntoken = "/dev/null"\n[[peer]]\ncredential = true\n',
    f'[authority]\nnetwork = "{"0" * 32}"\naccept = "10.0.0.0/8"\n[[authority.ca]]\n',
    "[nat]\n",
    "[nat]\nstun = [",
    '[[nat.turn]]\nsecret_file = "/etc/hostname"\nuris = [',
    '[[nat.turn]]\nuris = "turn:a"\n',
)

Parse = Callable[[str, Mode, Path | None], tuple[Config, list[str]]]


def test_one_input(data: bytes) -> None:
    """Read one file."""
    if not data:
        return
    mode: Mode = "quick" if data[0] & 2 else "wg"
    if data[0] & 1:
        # A TOML file has been checked for UTF-8 before it is parsed.
        # What stands in these tables is seldom found from nothing.
        head = HEADS[data[0] >> 2 & 7]
        read(toml.parse, head + data[1:].decode("utf-8", "replace"), mode)
        return
    text = data[1:].decode("utf-8", "surrogateescape")
    strip_or_refuse(text)
    config = read(conf.parse, text, mode)
    if config is not None:
        again, warnings = conf.parse(conf_text(config, quick=mode == "quick"), mode)
        if again.peers != normal(config).peers or warnings:
            raise AssertionError("what was written is not what was read")


def read(parse: Parse, text: str, mode: Mode) -> Config | None:
    """The configuration, or None when it is refused in a printable line."""
    try:
        config, warnings = parse(text, mode, None)
    except ConfigError as error:
        lines, config = [str(error)], None
    else:
        lines = warnings
    if not all(line.isprintable() for line in lines):
        raise AssertionError("a message is not one printable line")
    return config


def strip_or_refuse(text: str) -> None:
    """Strip a file, of which nothing is said but that SaveConfig is wrong."""
    try:
        strip_conf(text)
    except ConfigError as error:
        if error.key != "SaveConfig":
            raise


def normal(config: Config) -> Config:
    """The configuration without what text does not tell apart: zero and nothing."""
    peers = (
        replace(
            peer,
            preshared_key=None if _zero(peer.preshared_key) else peer.preshared_key,
            persistent_keepalive=peer.persistent_keepalive or None,
        )
        for peer in config.peers
    )
    return replace(config, peers=tuple(peers))


def _zero(key: PresharedKey | None) -> bool:
    return key is not None and key.is_zero()


def main() -> None:
    """Run until libFuzzer's arguments say that it is enough."""
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
