"""wgpy against boringtun, the userspace WireGuard in Rust."""

import pytest

from interop.checks import Checks
from tests.support.programs import BORINGTUN


@pytest.mark.tool("boringtun-cli")
class TestBoringtun(Checks):
    """The newest release of boringtun-cli."""

    other = BORINGTUN
