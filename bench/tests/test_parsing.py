"""What is read from the kernel, from iperf3 and from ping."""

import ipaddress
import os

import pytest

from bench import command, iperf, procstat, trial
from bench.lab import config_text, crowd_text
from bench.measures import aead, rtt

TICKS = os.sysconf("SC_CLK_TCK")


def test_cpu_of_a_name_with_spaces_and_parentheses() -> None:
    after = ["S", *(str(number) for number in range(4, 53))]
    after[11], after[12] = str(2 * TICKS), str(3 * TICKS)
    assert procstat.parse_cpu(f"7 (a) b (c)) {' '.join(after)}\n") == 5.0


def test_cpu_of_this_process_grows() -> None:
    before = procstat.cpu_seconds(os.getpid())
    while procstat.cpu_seconds(os.getpid()) == before:
        sum(range(10_000))
    assert procstat.cpu_seconds(os.getpid()) > before


def test_memory_of_a_rollup() -> None:
    text = "00400000-7fff [rollup]\nRss:      100 kB\nPss:      40 kB\nPss_Anon:   1 kB\n"
    assert procstat.parse_memory(text) == procstat.Memory(102_400, 40_960)


def test_memory_of_this_process() -> None:
    held = procstat.memory(os.getpid())
    assert 1 << 20 < held.pss <= held.rss


def test_iperf_report() -> None:
    end = {"sum_sent": {"bytes": 9, "seconds": 1}, "sum_received": {"bytes": 250e6, "seconds": 2}}
    done = iperf.parse({"end": end})
    assert done == iperf.Transfer(250_000_000, 2.0)
    assert done.gigabits_per_second == 1.0


def test_iperf_error_is_told() -> None:
    with pytest.raises(ValueError, match="iperf3: unable to connect"):
        iperf.parse({"error": "unable to connect", "end": {}})


def test_ping_times() -> None:
    output = (
        "64 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=0.381 ms\n"
        "64 bytes from 10.77.0.2: icmp_seq=2 ttl=64 time=12 ms\n"
        "rtt min/avg/max/mdev = 0.381/6.2/12/1 ms\n"
    )
    assert rtt.parse(output) == [0.381, 12.0]


@pytest.mark.tool("wg")
def test_config_has_as_many_peers_with_a_key_and_an_address_each() -> None:
    text = config_text(1000)
    assert text.count("[Peer]") == 1000
    keys = {line for line in text.splitlines() if line.startswith("PublicKey")}
    addresses = {line for line in text.splitlines() if line.startswith("AllowedIPs")}
    assert len(keys) == len(addresses) == 1000
    assert "AllowedIPs = 10.0.3.231/32" in addresses


def test_config_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="0 peers"):
        config_text(0)


def test_a_crowd_has_as_many_prefixes_and_none_twice() -> None:
    lines = crowd_text(10_000, 10).splitlines()
    allowed = [line.partition(" = ")[2] for line in lines if line.startswith("AllowedIPs")]
    prefixes = {ipaddress.ip_network(each) for line in allowed for each in line.split(", ")}
    assert len(allowed) == 10_000
    assert len(prefixes) == 100_000
    private = ipaddress.ip_network("172.16.0.0/12")
    assert all(each.subnet_of(private) for each in prefixes if each.version == 4)  # type: ignore[arg-type]


def test_a_crowd_beyond_its_prefixes_is_refused() -> None:
    with pytest.raises(ValueError, match="2000000 prefixes"):
        crowd_text(20_000, 100)


def test_a_trial_is_read_from_two_reports() -> None:
    sender = '{"sent": 1000, "refused": 1, "elapsed_ns": 500000000, "calls": 9, "urgent": 1}\n'
    sink = (
        'ready\n{"unique": 999, "elapsed_ns": 400000000, "latency_p50_ns": 1000000, '
        '"latency_p99_ns": 2000000, "latency_max_ns": 3000000, "duplicates": 4, '
        '"reordered": 5, "strangers": 6, "buffer_drops": 7}\n'
    )
    found = trial.read(2000.0, sender, sink)
    assert (found.wanted, found.sent, found.arrived) == (2000.0, 1000, 999)
    assert (found.seconds, found.span, found.rate) == (0.5, 0.4, 2000)
    assert (found.p50, found.p99, found.longest) == (1, 2, 3)
    assert found.more == {
        "refused": 1,
        "calls": 9,
        "urgent": 1,
        "duplicates": 4,
        "reordered": 5,
        "strangers": 6,
        "buffer_drops": 7,
    }


@pytest.mark.parametrize("sink", ["", "ready\n", "traffic: Address in use\n", "ready\n{}\n"])
def test_a_trial_without_a_report_is_one_line(sink: str) -> None:
    with pytest.raises(trial.TrialError, match="saying: ") as refused:
        trial.read(1.0, '{"sent": 1}', sink)
    assert "\n" not in str(refused.value)


def test_the_report_of_openssl() -> None:
    output = "+H:1424\n+F:25:ChaCha20-Poly1305:2848000000.00\n"
    assert aead.parse_openssl(output, 1424) == pytest.approx(500)
    assert aead.parse_openssl("no such cipher", 1424) is None


def test_command_gives_its_time_and_what_it_printed() -> None:
    lasted, printed = command.run("/bin/sh", "-c", "echo out; echo err >&2")
    assert lasted > 0
    assert printed == "out\nerr\n"
    assert command.typical("/bin/true") > 0


def test_command_that_fails_is_one_line() -> None:
    with pytest.raises(command.CommandError, match=r"exited with 3: why$"):
        command.run("/bin/sh", "-c", "echo first; echo why; exit 3")
