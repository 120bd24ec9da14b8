"""Tests of wgpy.config."""
