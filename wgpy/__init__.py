"""wgpy: a WireGuard that a person can read."""

__version__ = "0.1.0"
