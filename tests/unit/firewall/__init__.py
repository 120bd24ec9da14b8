"""Unit tests of the firewall."""
