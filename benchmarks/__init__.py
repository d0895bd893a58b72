"""Measurements, never tests: each prints one JSON object with rates and ratios of one run."""
