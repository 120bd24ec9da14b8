"""Find a configuration, read it, and say what to be careful about."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from wgpy.config.draft import Mode
from wgpy.config.errors import ConfigError, located
from wgpy.config.model import Config
from wgpy.config.values import shown
from wgpy.keys import exposure_warning

# Where the configuration of an interface lives: NAME.conf, as wg-quick(8) has it, or NAME.toml.
WIREGUARD_DIRECTORY: Final = Path("/etc/wireguard")
WGPY_DIRECTORY: Final = Path("/etc/wgpy")

# 10,000 peers with a hundred allowed IPs each are 20 MB; a disk image given by mistake is more.
MAX_FILE_LENGTH: Final = 64 << 20

# wg-quick(8)'s rule; the kernel's names have at most 15 bytes.
_INTERFACE_NAME: Final = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}", re.ASCII)


class Loaded(NamedTuple):
    """A configuration, and a line of text for each thing to be careful about."""

    config: Config
    warnings: list[str]


def is_interface_name(text: str) -> bool:
    """Whether an interface can have this name."""
    return _INTERFACE_NAME.fullmatch(text) is not None and text not in (".", "..")


def find(name_or_path: str) -> Path:
    """The file of an interface's name or of a path.

    A name is looked for in /etc/wireguard (NAME.conf) and in /etc/wgpy (NAME.toml). A path ends
    with the interface's name and `.conf` or `.toml`. Raises ConfigError.
    """
    written = Path(name_or_path)
    if is_interface_name(name_or_path):
        places = [
            WIREGUARD_DIRECTORY / f"{name_or_path}.conf",
            WGPY_DIRECTORY / f"{name_or_path}.toml",
        ]
        found = [place for place in places if place.exists()]
        if len(found) == 2:
            raise ConfigError(
                found[0],
                None,
                None,
                f"{found[1]} exists as well",
                "name the one to use by its path",
            )
        if found:
            return found[0]
        # `wg0.conf` could be a name, but a file of that name here is what was meant.
        if not (written.suffix in (".conf", ".toml") and written.exists()):
            raise ConfigError(
                None,
                None,
                None,
                f"there is neither {places[0]} nor {places[1]}",
                "write one of them, or give the path of a file",
            )
    interface_name(written)
    if not written.exists():
        raise ConfigError(written, None, None, "there is no such file")
    return written


def interface_name(path: Path) -> str:
    """The interface that a file is for, from the file's name. Raises ConfigError."""
    if path.suffix not in (".conf", ".toml") or not is_interface_name(path.stem):
        raise ConfigError(
            path,
            None,
            None,
            "the file's name is not that of an interface and .conf or .toml",
            "a name has up to 15 letters, digits or _=+.-",
        )
    return path.stem


def load(path: Path | str, mode: Mode) -> Loaded:
    """Read a file: TOML if it is named so, else .conf, as far as `mode` understands it.

    Raises ConfigError for a file that cannot be read or that is refused.
    """
    path = Path(path)
    text = read_text(path)
    if path.suffix == ".toml":
        from wgpy.config import toml

        config, warnings = toml.parse(text, mode, path)
    else:
        from wgpy.config import conf

        config, warnings = conf.parse(text, mode, path)
    if mode == "quick":
        warning = exposure_warning(path)
        if warning is not None:
            warnings.insert(0, warning)
    return Loaded(config, warnings)


def read_text(path: Path) -> str:
    """The text of a configuration file. Bytes that are not UTF-8 stay as surrogates in a .conf
    file, where a hook may hold anything; TOML has none. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_LENGTH + 1)
    except OSError as error:
        raise ConfigError(path, None, None, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(None, None, None, f"{shown(str(path))} is no path") from None
    if len(raw) > MAX_FILE_LENGTH:
        raise ConfigError(path, None, None, f"is longer than {MAX_FILE_LENGTH >> 20} MiB")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(path, 1, None, "starts with a byte order mark", "save it without one")
    if path.suffix != ".toml":
        return raw.decode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, line, None, "is not UTF-8", "save it as UTF-8") from None


def warning_without_key(loaded: Config) -> str | None:
    """What to say of a configuration to bring up that has no private key and no hook to set one."""
    interface = loaded.interface
    if interface.private_key is not None or interface.pre_up or interface.post_up:
        return None
    return located(loaded.path, None, None, "there is no private key", "nobody can connect")
