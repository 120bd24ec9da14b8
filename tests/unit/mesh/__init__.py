"""Tests of wgpy/mesh."""
