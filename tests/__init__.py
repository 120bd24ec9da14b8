"""The tests of wgpy: unit, model and system; what they share is in support/."""
