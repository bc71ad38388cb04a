"""Fewer values for each parameter: shared ones, evenly spaced ones, and those that cost few bits."""
