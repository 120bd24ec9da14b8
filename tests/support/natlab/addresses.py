"""Who has which address in a lab.

    gateway of the internet     11.77.0.254                fe80::1
    WAN of router N             11.77.1.N, later N+100     2a00:77:ffff::N
    LAN of router N             192.168.N.0/24             2a00:77:N::/64
      that is a CGNAT           100.64.N.0/24
      that does not translate   11.77.3.16*N/28
    host N of the internet      11.77.2.N, N+100           2a00:77:fffe::N, N+100

Routers and hosts of the internet are numbered from 1, as they are described. On a LAN the router
has the first address, and hosts those from the tenth.

What is on the internet has addresses that programs take for such: a port mapping service refuses
to work behind those for documentation (RFC 5737, RFC 3849), and so do we. Nothing that is sent to
them leaves the lab.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

GATEWAY = "11.77.0.254"
GATEWAY6 = "fe80::1"

_WAN = IPv4Address("11.77.1.0")
_WAN6 = IPv6Address("2a00:77:ffff::")
_SERVERS = IPv4Address("11.77.2.0")
_SERVERS6 = IPv6Address("2a00:77:fffe::")
_OPEN = IPv4Network("11.77.3.0/24")
# Between an address of a host of the internet, or of a WAN, and the next one of the same.
STEP = 100

# So many the ranges hold: a /28 for each router that does not translate, and a server's number and
# that of its second address in one /24.
MAX_OPEN = 15
MAX_ROUTERS = 99
MAX_SERVERS = 99
MAX_ADDRESSES = 2
FIRST_HOST = 10


def wan(number: int) -> str:
    return str(_WAN + number)


def wan6(number: int) -> str:
    return str(_WAN6 + number)


def home_lan(number: int) -> IPv4Network:
    return IPv4Network(f"192.168.{number}.0/24")


def carrier_lan(number: int) -> IPv4Network:
    return IPv4Network(f"100.64.{number}.0/24")


def open_lan(number: int) -> IPv4Network:
    return list(_OPEN.subnets(new_prefix=28))[number]


def lan6(number: int) -> IPv6Network:
    return IPv6Network(f"2a00:77:{number:x}::/64")


def server(number: int, count: int) -> list[str]:
    """Its IPv4 addresses."""
    return [str(_SERVERS + number + STEP * index) for index in range(count)]


def server6(number: int, count: int) -> list[str]:
    """Its IPv6 addresses."""
    return [str(_SERVERS6 + number + STEP * index) for index in range(count)]
