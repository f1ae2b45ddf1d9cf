"""Pairs -> scores -> report: what `deblur bench` runs."""
