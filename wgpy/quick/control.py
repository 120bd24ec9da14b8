"""The daemon of an interface, through its UAPI socket: what `up` and `save` ask of it."""

import time

from wgpy.config.model import Config
from wgpy.config.sync import Resolve, endpoint_address, set_change
from wgpy.device import client
from wgpy.device.uapi import DeviceChange, DeviceState, UapiError
from wgpy.quick.runner import say

# A daemon in the background may need a moment before it accepts: it is asked again until then.
_PATIENCE = 5.0
_POLL = 0.02


class DaemonControl:
    """Gives the configuration of one file to the daemon of one interface."""

    def __init__(self, interface: str, config: Config, resolve: Resolve) -> None:
        self._interface = interface
        self._config = config
        self._resolve = resolve

    def configure(self) -> None:
        """`setconf` with the configuration. Raises UapiError, and what `resolve` raises."""
        ours = self._first_state().wgpy_version is not None
        named = [
            peer.endpoint.host
            for peer in self._config.peers
            if peer.endpoint is not None and endpoint_address(peer.endpoint) is None
        ]
        if named and not ours:
            say(
                f"[!] this daemon keeps no host names: {', '.join(named)} is looked up now, "
                "and not again when the address changes"
            )
        client.apply(self._interface, set_change(self._config, self._resolve, names=ours))

    def _first_state(self) -> DeviceState:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return client.get(self._interface)
            except UapiError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL)

    def set_mark(self, mark: int) -> None:
        """Set the firewall mark of the daemon's own packets. Raises UapiError."""
        client.apply(self._interface, DeviceChange(fwmark=mark))

    def state(self) -> DeviceState:
        """What the interface has now. Raises UapiError."""
        return client.get(self._interface)
