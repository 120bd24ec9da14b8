"""WireGuard as pure functions and state machines: (bytes, now) in, bytes and decisions out."""
