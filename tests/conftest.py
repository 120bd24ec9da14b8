"""Fixtures and markers of the tests: see tests/support/plugin.py."""

from tests.support.plugin import (
    clean_machine,
    net,
    postgres,
    pytest_configure,
    pytest_report_header,
    pytest_runtest_setup,
)

__all__ = [
    "clean_machine",
    "net",
    "postgres",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_setup",
]
