"""Unit tests of ways through NATs."""
