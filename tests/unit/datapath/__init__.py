"""Tests of wgpy.datapath."""
