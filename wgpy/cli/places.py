"""Addresses and ports of a command line, the port of which may be left out."""

from wgpy.cli.errors import CommandError
from wgpy.config.values import BadValueError, is_host, parse_endpoint


def parse_place(text: str, port: int) -> tuple[str, int]:
    """Read `HOST`, `HOST:PORT`, `ADDRESS` or `[ADDRESS]:PORT`, where `port` is what is left out.

    Raises CommandError.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if is_host(bare):
        return bare, port
    try:
        spec = parse_endpoint(text)
    except BadValueError as error:
        raise CommandError(str(error)) from None
    return spec.host, spec.port
