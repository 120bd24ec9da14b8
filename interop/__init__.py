"""wgpy against other implementations of WireGuard."""

import pytest

# Its assertions are to say what they compared, as those of test modules do.
pytest.register_assert_rewrite("interop.checks")
