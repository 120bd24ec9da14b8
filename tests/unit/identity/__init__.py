"""Tests of wgpy/identity."""
