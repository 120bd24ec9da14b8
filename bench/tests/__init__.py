"""Tests of what the measurements are made with: `pytest bench`. They measure nothing."""
