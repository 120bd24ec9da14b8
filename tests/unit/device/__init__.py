"""Tests of wgpy.device."""
