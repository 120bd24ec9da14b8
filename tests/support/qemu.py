"""A Linux guest in QEMU, on a tap in a namespace, that runs the commands it is given.

      namespace                              guest (QEMU, software emulation)
    ┌─────────────────────────┐            ┌───────────────────────────┐
    │ IF (the userspace one)  │            │ wg0 (the kernel's)        │
    │    │                    │            │    │                      │
    │ tap0 10.93.0.1 fd93::1  ├────tap─────┤ eth0 10.93.0.2 fd93::2    │
    └─────────────────────────┘            └───────────────────────────┘

The first serial line is the guest's console and goes to a log. The second carries commands:
one line of base64 to the guest, which runs it by sh; back come one line of base64, its output,
and one line with its exit code.
"""

import base64
import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.kernel import Kernel, initramfs
from tests.support.netns import CommandError, Namespace, Process
from tests.support.requirements import program

TAP = "tap0"
HOST = ("10.93.0.1", "fd93::1")
GUEST = ("10.93.0.2", "fd93::2")
# Booted in about 7 s on a quiet machine.
BOOT_TIMEOUT = 90.0
# The guest is ended after so long whatever happens.
GUEST_LIFE = 300.0
MEMORY = "256M"

INIT = f"""#!/bin/busybox sh
set -e
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r name; do insmod "/lib/modules/$name.ko"; done < /lib/modules/order
# Addresses are usable at once: none is asked for twice on this wire.
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set lo up
ip link set eth0 up
ip address add {GUEST[0]}/24 dev eth0
ip address add {GUEST[1]}/64 dev eth0
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
set +e
# In a child of its own: orphans become children of process 1, and the end of a child makes
# busybox's `read` forget the half of a line that it has.
(
    echo ready >&3
    while read -r line <&3; do
        echo "$line" | base64 -d > /tmp/command
        sh /tmp/command > /tmp/output 2>&1 < /dev/null
        code=$?
        base64 -w 0 /tmp/output >&3
        echo >&3
        echo "$code" >&3
    done
)
poweroff -f
"""


class Guest:
    """A running guest; `run` gives it commands."""

    def __init__(self, process: Process, control: socket.socket, console: Path) -> None:
        self.process = process
        self._console = console
        self._control = control
        self._lines = control.makefile("rb")

    def _read_line(self, waiting_for: str) -> str:
        try:
            line = self._lines.readline()
        except TimeoutError:
            line = b""
        if not line.endswith(b"\n"):
            raise CommandError(f"the guest did not answer to {waiting_for}; {self.console_end()}")
        return line.decode().strip()

    def console_end(self) -> str:
        """The last lines of the console, for a failure's message."""
        text = self._console.read_text(errors="replace") if self._console.exists() else ""
        said = " | ".join([*text.splitlines(), *self.process.output().splitlines()][-5:])
        return f"its console ends with: {said or '(nothing)'}"

    def wait_for_boot(self) -> None:
        """Return when the guest takes commands; CommandError if it does not boot."""
        self._control.settimeout(BOOT_TIMEOUT)
        line = self._read_line("its boot")
        if line != "ready":
            raise CommandError(f"the guest said {line!r} in place of 'ready'")

    def run(self, command: str, *, timeout: float = 30.0, check: bool = True) -> str:
        """Run a line of sh in the guest; returns its output, CommandError if it fails."""
        self._control.settimeout(timeout)
        self._control.sendall(base64.b64encode(command.encode()) + b"\n")
        output = base64.b64decode(self._read_line(f"`{command}`")).decode(errors="replace")
        code = int(self._read_line(f"`{command}`"))
        if check and code != 0:
            last = output.strip().splitlines() or ["(it printed nothing)"]
            raise CommandError(f"in the guest `{command}` exited with {code}: {last[-1]}")
        return output

    def write(self, path: str, text: str) -> None:
        """Write a file in the guest."""
        self.run(f"cat > {path} <<'END'\n{text}\nEND")

    def ping(self, address: str, count: int = 1, wait: int = 10) -> None:
        """ping from the guest; CommandError if not all are answered in `wait` seconds."""
        shown = self.run(f"ping -c {count} -w {wait} {address}", timeout=wait + 10, check=False)
        if f"{count} packets received" not in shown:
            raise CommandError(f"the guest's ping to {address} is not answered")

    def close(self) -> None:
        """End the guest."""
        self._lines.close()
        self._control.close()
        self.process.close()


@contextlib.contextmanager
def guest(space: Namespace, kernel: Kernel) -> Iterator[Guest]:
    """Boot `kernel` on a tap in `space`; the guest takes commands when this returns."""
    space.ip("tuntap", "add", "dev", TAP, "mode", "tap")
    space.ip("link", "set", TAP, "up")
    space.add_address(TAP, f"{HOST[0]}/24", f"{HOST[1]}/64")
    with (
        tempfile.TemporaryDirectory(prefix="wgpy-guest-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        ramdisk = Path(scratch, "initramfs")
        ramdisk.write_bytes(initramfs(kernel, INIT))
        console = Path(scratch, "console")
        ours, theirs = socket.socketpair()
        with theirs:
            process = space.popen(
                program("qemu-system-x86_64"),
                *("-accel", "tcg", "-cpu", "max", "-m", MEMORY, "-no-reboot"),
                *("-nodefaults", "-no-user-config", "-display", "none"),
                *("-kernel", str(kernel.image), "-initrd", str(ramdisk)),
                *("-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"),
                *("-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no"),
                *("-device", "virtio-net-pci,netdev=net,romfile="),
                *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
                *("-chardev", f"socket,id=control,fd={theirs.fileno()}"),
                *("-serial", "chardev:control"),
                life=GUEST_LIFE,
                pass_fds=(theirs.fileno(),),
            )
        made = Guest(process, ours, console)
        stack.callback(made.close)
        made.wait_for_boot()
        yield made
