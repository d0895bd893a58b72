"""Readings in a time-series store, everything else in SQL."""
