"""Tests of wgpy.cli."""
