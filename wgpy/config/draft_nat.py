"""[nat] while it is being read, and what must stand in it together."""

from dataclasses import dataclass, field

from wgpy.config.draft_credentials import MakeError
from wgpy.device.paths import NatSettings, TurnSettings


@dataclass(slots=True)
class NatDraft:
    """[nat] as far as it was read. `line` is that of its header."""

    line: int | None
    stun: list[tuple[str, int]] = field(default_factory=list)
    turn: list[TurnSettings] = field(default_factory=list)
    portmap: bool = True
    signal: str | None = None
    birthday: bool = False
    birthday_line: int | None = None
    relay_only: bool = False
    relay_only_line: int | None = None

    def finish(self, error: MakeError) -> NatSettings:
        """The settings. Raises ConfigError for what could never do anything."""
        if self.relay_only and not self.turn:
            raise error(
                self.relay_only_line,
                "relay_only",
                "there is no relay in this file",
                "write one under [[nat.turn]], or leave relay_only out",
            )
        if self.relay_only and self.birthday:
            raise error(
                self.birthday_line,
                "birthday",
                "is for direct ways, and relay_only wants none",
                "leave one of the two out",
            )
        return NatSettings(
            stun=tuple(dict.fromkeys(self.stun)),
            turn=tuple(self.turn),
            portmap=self.portmap,
            signal=self.signal,
            birthday=self.birthday,
            relay_only=self.relay_only,
        )
