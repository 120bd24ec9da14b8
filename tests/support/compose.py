"""The services of deploy/docker-compose.yml, run here as they stand there, without Docker.

    service = services()["turn"]
    with Running(service, namespace, {"/run/coturn.conf": path}, secrets={"turn": "..."}) as it:
        it.healthy()

Each has a mount namespace of its own, in which /run is empty but for its secrets and the files that
are bound there, and the capabilities that the file leaves it.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.commands import LIFE, Process, wait_until
from tests.support.netns import Namespace
from tests.support.requirements import ROOT

FILE = ROOT / "deploy" / "docker-compose.yml"

# As compose writes times.
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def document() -> dict[str, Any]:
    """The file as it stands there."""
    found = yaml.safe_load(FILE.read_text())
    assert isinstance(found, dict)
    return found


def seconds(text: str) -> float:
    """A time as compose has it, such as `30s`."""
    found = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert found is not None, text
    return int(found[1]) * _SECONDS[found[2]]


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its words with the `$` of the container, its check, and what it may do."""

    name: str
    image: str
    words: tuple[str, ...]
    environment: Mapping[str, str]
    check: tuple[str, ...]
    # What one check may take, and from its start until it must be healthy, in seconds.
    check_time: float
    patience: float
    capabilities: tuple[str, ...] | None
    secrets: tuple[str, ...]


def services() -> dict[str, Service]:
    """All services of the file."""
    return {name: _service(name, text) for name, text in document()["services"].items()}


def _service(name: str, text: Mapping[str, Any]) -> Service:
    check = text["healthcheck"]
    assert check["test"][0] == "CMD"
    drops = text.get("cap_drop") == ["ALL"]
    return Service(
        name,
        text["image"],
        _unescaped([*text.get("entrypoint", []), *text.get("command", [])]),
        {key: str(value) for key, value in text.get("environment", {}).items()},
        _unescaped(check["test"][1:]),
        seconds(check["timeout"]),
        seconds(check["start_period"]) + seconds(check["interval"]) * int(check["retries"]),
        tuple(x.lower() for x in text.get("cap_add", [])) if drops else None,
        tuple(text.get("secrets", [])),
    )


def _unescaped(words: Sequence[str]) -> tuple[str, ...]:
    """Compose takes `$$` for a dollar sign, and a single one for a variable of its own."""
    for word in words:
        assert not re.search(r"(?<!\$)(?:\$\$)*\$(?!\$)", word), f"a single $ in {word!r}"
    return tuple(word.replace("$$", "$") for word in words)


class Running:
    """A service that runs in a network namespace; a context manager that ends it.

    `binds` are files and directories by their paths in the container, all below /run or there
    already. `environment` is what this machine needs besides.
    """

    def __init__(
        self,
        service: Service,
        space: Namespace,
        binds: Mapping[str, Path] | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        life: float = LIFE,
    ) -> None:
        self.service = service
        self._space = space
        self._binds = dict(binds or {})
        self._secrets = dict(secrets or {})
        self._environment = {**service.environment, **(environment or {})}
        self._prefix = tuple(prefix)
        self._life = life
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._process = self._space.popen(
            *("unshare", "--mount", "--propagation", "private", "--"),
            *("sh", "-euc", self._script(), self.service.name),
            *self._prefix,
            *self.service.words,
            env=self._environment,
            life=self._life,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if error is not None:
            print(f"--- {self.service.name} ---\n{self._process.output()}")
        self._process.stop()

    def _script(self) -> str:
        assert set(self._secrets) <= set(self.service.secrets)
        lines = []
        # What is bound may be below /run, which is covered in the next step.
        for number, place in enumerate(self._binds.values()):
            lines.append(f"exec {number + 3}<{shlex.quote(str(place))}")
        lines += ["mount -t tmpfs -o mode=0755 run /run", "mkdir -p /run/secrets /run/turn"]
        for name, text in self._secrets.items():
            lines.append(f"printf '%s\\n' {shlex.quote(text)} >/run/secrets/{name}")
        for number, (target, place) in enumerate(self._binds.items()):
            make = f"mkdir -p {target}" if place.is_dir() else f": >>{target}"
            lines.append(f"{make}; mount --bind /proc/self/fd/{number + 3} {target}")
        lines += [f"exec {number + 3}<&-" for number in range(len(self._binds))]
        limits = ""
        if self.service.capabilities is not None:
            added = "".join(f",+{name}" for name in self.service.capabilities)
            limits = f"setpriv --no-new-privs --bounding-set=-all{added} -- "
        return "\n".join([*lines, f'exec {limits}"$@"'])

    def pid(self) -> int:
        """The number of its first process."""
        assert self._process is not None
        return self._process.pid

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command where it runs, as `docker compose exec` does it."""
        return subprocess.run(
            ["nsenter", "--mount", "--net", "--target", str(self.pid()), "--", *words],
            capture_output=True,
            text=True,
            timeout=self.service.check_time,
            env={**os.environ, **self._environment},
            check=True,
        )

    def passes(self) -> bool:
        """Its healthcheck, once, where it runs; one that takes too long has failed."""
        try:
            self.run(*self.service.check)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return False
        return True

    def healthy(self) -> None:
        """Wait until its healthcheck passes, as long as the file lets it take."""
        assert self._process is not None
        process = self._process

        def passes() -> bool:
            if not process.running():
                raise AssertionError(f"{self.service.name} ended: {process.output()[-2000:]}")
            return self.passes()

        wait_until(passes, f"{self.service.name} to be healthy", self.service.patience)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        assert self._process is not None
        return self._process.wait(self.service.patience)

    def output(self) -> str:
        """What it has written."""
        assert self._process is not None
        return self._process.output()
