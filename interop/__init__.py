"""wgpy against other implementations of WireGuard."""
