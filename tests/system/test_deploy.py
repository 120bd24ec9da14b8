"""deploy/: what is in the files, and the services of docker-compose.yml run as they stand there."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.support import compose
from tests.support.compose import Running
from tests.support.coturn import PORT, Secret
from tests.support.netns import STATE_DIRECTORY, Namespace, join, pair
from tests.support.postgres import Postgres
from tests.support.requirements import ROOT, program

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
SECRETS = {"database": "a:pass\\word of the database", "turn": "a secret of the relay"}
SERVICES = compose.services()

# 0 is a unit that may do nothing at all, 10 one without any limits (systemd-analyze(1)).
MOST_EXPOSED = {
    "wgpy@": 3.0,
    "wgpy-mesh@": 3.0,
    "wgpy-mesh-guard@": 2.1,
    "wgpy-coordinator@": 2.1,
}


# --- What stands in the files ---


@pytest.mark.tool("docker-compose")
def test_compose_takes_the_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("docker-compose"), "-f", str(compose.FILE), "config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for word in (*SERVICES, "service_healthy", "/dev/net/tun", "secrets/turn"):
        assert word in done.stdout


def test_images_are_pinned_by_version() -> None:
    images = [x.image for x in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 5
    for image in images:
        assert re.fullmatch(r"[\w/.-]+:[0-9]+\.[0-9][\w.-]*", image), image
        assert "latest" not in image


def test_every_service_has_a_healthcheck_and_no_secret_in_its_words() -> None:
    for service in SERVICES.values():
        assert service.check
        assert 10 <= service.patience <= 180
        secret = [x for x in service.environment if re.search("(?i)password|secret", x)]
        assert all(name.endswith("_FILE") for name in secret)
    for name, secret_file in compose.document()["secrets"].items():
        assert secret_file == {"file": f"./secrets/{name}"}


def test_secrets_get_into_no_image_and_no_history() -> None:
    assert "deploy/secrets" in (ROOT / ".dockerignore").read_text().splitlines()
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    turn = (DEPLOY / "coturn.conf").read_text()
    assert not re.search(r"^\s*(static-auth-secret|user|cli-password)=", turn, re.MULTILINE)


def test_what_the_image_has_is_what_the_program_says_it_needs() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    version = re.search(r'__version__.*?"([^"]+)"', (ROOT / "wgpy" / "__init__.py").read_text())
    assert version is not None
    assert SERVICES["coordinator"].image == f"wgpy:{version[1]}"
    assert "'.[mesh,coordinator]'" in text
    assert os.access(DEPLOY / "entrypoint", os.X_OK)


@pytest.mark.tool("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_nothing_in_a_unit(unit: Path, tmp_path: Path) -> None:
    # Instances, with programs where they are here.
    for each in UNITS:
        text = re.sub(r"(?<==)(\+?)(wgpyd?)(?= )", lambda m: m[1] + program(m[2]), each.read_text())
        (tmp_path / each.name).write_text(text)
        (tmp_path / each.name.replace("@", "@wg0")).write_text(text)
    shutil.copy(DEPLOY / "wgpy.target", tmp_path)
    made = tmp_path / unit.name.replace("@", "@wg0")
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    words = [program("systemd-analyze"), "verify", "--man=no", str(made)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    mine = [line for line in done.stderr.splitlines() if "wgpy" in line]
    assert (mine, done.returncode) == ([], 0)
    words = [program("systemd-analyze"), "security", "--offline=true", str(made)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSED[unit.stem]


# --- The services ---


@pytest.mark.root
def test_the_entrypoint_gives_the_password_to_libpq(tmp_path: Path) -> None:
    """In a file that only it may read, in the form that libpq reads: psycopg has the same libpq."""
    program_text = (DEPLOY / "entrypoint").read_text()
    (tmp_path / "database").write_text(SECRETS["database"] + "\n")
    script = tmp_path / "entrypoint"
    script.write_text(
        program_text.replace("/run/secrets/database", str(tmp_path / "database")).replace(
            "/run/pgpass", str(tmp_path / "pgpass")
        )
    )
    done = subprocess.run(
        ["sh", str(script), "sh", "-c", 'stat -c %a "$PGPASSFILE"; cat "$PGPASSFILE"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "600\n*:*:*:*:a\\:pass\\\\word of the database\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Namespace, Postgres]]:
    """The service `database`, from Debian's PostgreSQL: its name, its role, and its password."""
    service = SERVICES["database"]
    name, user = service.environment["POSTGRES_DB"], service.environment["POSTGRES_USER"]
    rules = tmp_path / "pg_hba.conf"
    rules.write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    made = Path("/tmp", f"wgpy-deploy-{os.getpid()}")
    options = {"hba_file": f"'{made / 'pg_hba.conf'}'"}
    server = Postgres(made, address="127.0.0.1", options=options)
    made.mkdir()
    shutil.copy(rules, made)
    with Namespace("deploy") as space:
        space.inside(server.__enter__)
        try:
            quoted = SECRETS["database"].replace("'", "''")
            server.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{quoted}'")
            server.execute(f"CREATE DATABASE {name} OWNER {user}")
            yield space, server
        finally:
            server.__exit__(None, None, None)


@pytest.mark.root
@pytest.mark.tool("pg_ctl")
def test_the_database(database: tuple[Namespace, Postgres]) -> None:
    space, server = database
    service = SERVICES["database"]
    # The check runs beside the server, and finds it by its socket.
    environment = {"PGHOST": str(server.directory), "PATH": f"{_pg_bin()}:{os.environ['PATH']}"}
    assert space.run(*service.check, env=environment).returncode == 0
    user, name = service.environment["POSTGRES_USER"], service.environment["POSTGRES_DB"]

    def connect(password: str) -> object:
        with psycopg.connect(
            host="127.0.0.1", user=user, dbname=name, password=password, connect_timeout=5
        ) as connection:
            return connection.execute("SELECT current_user").fetchone()

    assert space.inside(lambda: connect(SECRETS["database"])) == (user,)
    with pytest.raises(psycopg.OperationalError):
        space.inside(lambda: connect("another"))
    server.stop()
    assert space.run(*service.check, env=environment, check=False).returncode != 0


def _pg_bin() -> Path:
    return Path(program("pg_ctl")).resolve().parent


@pytest.mark.root
@pytest.mark.tool("turnserver")
@pytest.mark.tool("turnutils_uclient")
@pytest.mark.tool("turnutils_stunclient")
@pytest.mark.tool("unshare")
@pytest.mark.tool("nsenter")
def test_the_relay(clean_machine: None) -> None:
    with pair() as net:
        # Addresses that are nobody's private ones, for those are denied.
        net.left.add_address("veth0", "198.51.100.1/24")
        net.right.add_address("veth0", "198.51.100.2/24")
        binds = {"/run/coturn.conf": DEPLOY / "coturn.conf"}
        secrets = {"turn": SECRETS["turn"]}
        with Running(SERVICES["turn"], net.left, binds, secrets=secrets) as service:
            service.healthy()
            words = Path(f"/proc/{service.pid()}/cmdline").read_bytes()
            assert SECRETS["turn"].encode() not in words
            status = Path(f"/proc/{service.pid()}/status").read_text()
            user = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
            assert user is not None
            assert user[1] != "0"
            good = Secret(SECRETS["turn"]).credentials("laptop.mesh", time.time() + 600)
            bad = Secret("another").credentials("laptop.mesh", time.time() + 600)
            assert _relays(net.right, *good, peer="198.51.100.2")
            assert not _relays(net.right, *bad, peer="198.51.100.2")
            # What is behind the server is not reached by it.
            assert not _relays(net.right, *good, peer=net.left.v4)


def _relays(space: Namespace, user: str, password: str, *, peer: str) -> bool:
    """Whether a packet to a peer, which sends it back, comes back through the relay."""
    with space.inside(lambda: subprocess.Popen(["turnutils_peer", "-L", "198.51.100.2"])) as echo:
        try:
            done = space.run(
                *("turnutils_uclient", "-u", user, "-w", password, "-e", peer, "-n", "2"),
                *("-m", "1", "-c", "-X", "-p", str(PORT), "198.51.100.1"),
                check=False,
                timeout=60,
            )
        finally:
            echo.kill()
    return done.returncode == 0 and "lost packets 0 " in done.stdout + done.stderr


@pytest.mark.root
@pytest.mark.tool("pg_ctl")
@pytest.mark.tool("setpriv")
@pytest.mark.tool("unshare")
@pytest.mark.tool("nsenter")
@pytest.mark.tool("wgpyd")
def test_the_coordinator(
    database: tuple[Namespace, Postgres], tmp_path: Path, clean_machine: None
) -> None:
    """Founded as docs/mesh.md says, on the database of the file, with what the file lets it do."""
    space, _server = database
    service = SERVICES["coordinator"]
    with Namespace("outside") as other:
        join(space, other)
        state, hosts = tmp_path / "state", tmp_path / "hosts"
        state.mkdir(mode=0o700)
        # Compose's own names: the database is a service of the same network.
        hosts.write_text("127.0.0.1 localhost database\n")
        STATE_DIRECTORY.mkdir(parents=True, exist_ok=True)
        binds = {str(STATE_DIRECTORY): state, "/etc/hosts": hosts}
        # Programs are where this environment has them, and not in /usr/local/bin.
        environment = {"PATH": f"{Path(program('wgpy')).parent}:{os.environ['PATH']}"}

        def running(*words: str) -> Running:
            return Running(
                replace(service, words=words or service.words),
                space,
                binds,
                secrets=SECRETS,
                environment=environment,
                prefix=(str(DEPLOY / "entrypoint"),),
            )

        init = (
            *("wgpy", "mesh", "init", "--no-start", "--name", "gate", "--endpoint", space.v4),
            *("--store", "postgresql://wgpy@database/wgpy", "--range", "10.77.0.0/16"),
            *("--turn", "turn:198.51.100.1:3478", "--turn-secret-file", "/run/secrets/turn"),
        )
        with running(*init) as founding:
            assert founding.wait() == 0, founding.output()
        assert "gate.mesh is there, with 10.77.0.1" in founding.output()
        with running() as coordinator:
            coordinator.healthy()
            words = ("wgpy", "mesh", "invite", "--json")
            line = json.loads(coordinator.run(*words).stdout)["line"]
            assert line.startswith("wgpy-join:")
            # The password is in no command line and in no file of the volume.
            secret = SECRETS["database"].encode()
            files = [x for x in state.rglob("*") if x.is_file()]
            assert len(files) > 5
            assert not [x for x in files if secret in x.read_bytes()]
