"""The real thing against a naive model of it."""
