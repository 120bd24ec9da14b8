"""Tests of wgpy/linux."""
