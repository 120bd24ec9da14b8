"""A gateway of UPnP on the loopback, which can be made to err and to lie: what miniupnpd cannot.

    with FakeIgd() as igd:
        igd.refuses["AddPortMapping"] = 725
        outcome = asyncio.run(carry_out(igd.order(Deed.MAP)))

It speaks HTTP and SOAP as WANIPConnection:1 has them, to a real miniupnpc.
"""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from wgpy.nat.upnp import Deed, Order

HOST = "127.0.0.1"
EXTERNAL = "11.0.0.7"
PORT = 41_000

_SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
_DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor>
</specVersion>{base}<device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{service}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>{control}</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/s.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"""
_ENVELOPE = """<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{}</s:Body></s:Envelope>"""
_FAULT = (
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
    '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{}</errorCode>'
    "<errorDescription>no</errorDescription></UPnPError></detail></s:Fault>"
)

# Address, port, lifetime.
Entry = tuple[str, int, int]


class FakeIgd:
    """The gateway. What is not said otherwise works as it should."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        # Names of actions, and the error that they fail with, now.
        self.refuses: dict[str, int] = {}
        self.external = EXTERNAL
        self.control = "/control"
        self.base = ""
        # What stands in the place of the description.
        self.page: str | None = None
        # Each mapping is entered with this instead of what was asked.
        self.enters: Entry | None = None
        # Only mappings without a lifetime are taken.
        self.only_permanent = False
        # Says port 0 of every mapping, as miniupnpd 2.3.0 did.
        self.is_mute = False
        # Sends so many bytes of nothing after each answer's head, and says no length.
        self.floods = 0
        # Answers nothing until the test is over.
        self.hangs = False
        self.actions: list[str] = []
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

            def do_GET(self) -> None:
                owner.answer(self, owner.description())

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length).decode()
                service, _, action = self.headers["SOAPAction"].strip('"').partition("#")
                fits = service == _SERVICE and self.path == "/control"
                result = owner.act(action, body) if fits else _FAULT.format(401)
                owner.answer(self, _ENVELOPE.format(result))

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """Where the description is."""
        return f"http://{HOST}:{self._server.server_address[1]}/root.xml"

    def order(self, deed: Deed, *external: int, held: int = 0, **changes: Any) -> Order:
        """An order at this gateway for PORT of ours."""
        fields = {"own": HOST, "port": PORT, "lifetime": 7_200, **changes}
        return Order(deed, self.url, HOST, external=external or (PORT,), held=held, **fields)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def description(self) -> str:
        """The root description."""
        if self.page is not None:
            return self.page
        base = f"<URLBase>{self.base}</URLBase>" if self.base else ""
        return _DESCRIPTION.format(base=base, service=_SERVICE, control=self.control)

    def answer(self, to: BaseHTTPRequestHandler, text: str) -> None:
        """Send a page, or what is to be sent instead."""
        if self.hangs:
            self.released.wait(60)
        data = text.encode("latin-1")
        to.send_response(500 if "Fault" in text else 200)
        to.send_header("Content-Type", "text/xml")
        if not self.floods:
            to.send_header("Content-Length", str(len(data)))
        to.end_headers()
        # Whoever asked may have had enough.
        with contextlib.suppress(OSError):
            block = b" " * 65_536
            for _ in range(self.floods // len(block)):
                to.wfile.write(block)
            to.wfile.write(data)

    def act(self, action: str, body: str) -> str:
        """The inside of an answer to one SOAP call."""
        self.actions.append(action)
        given = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        if action in self.refuses:
            return _FAULT.format(self.refuses[action])
        out: dict[str, object] = {}
        port = int(given.get("NewExternalPort", 0))
        if action == "GetExternalIPAddress":
            out = {"NewExternalIPAddress": self.external}
        elif action == "AddPortMapping":
            lifetime = int(given["NewLeaseDuration"])
            if self.only_permanent and lifetime:
                return _FAULT.format(725)
            if port in self.entries and self.entries[port][0] != given["NewInternalClient"]:
                return _FAULT.format(718)
            asked = (given["NewInternalClient"], int(given["NewInternalPort"]), lifetime)
            self.entries[port] = self.enters or asked
        elif port not in self.entries:
            return _FAULT.format(714)
        elif action == "GetSpecificPortMappingEntry":
            client, inner, lifetime = self.entries[port]
            out = {
                "NewInternalPort": 0 if self.is_mute else inner,
                "NewInternalClient": client,
                "NewEnabled": 1,
                "NewPortMappingDescription": "x",
                "NewLeaseDuration": lifetime,
            }
        elif action == "DeletePortMapping":
            del self.entries[port]
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in out.items())
        return f'<u:{action}Response xmlns:u="{_SERVICE}">{inside}</u:{action}Response>'
