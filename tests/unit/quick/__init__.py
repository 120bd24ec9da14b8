"""Tests of wgpy/quick."""
