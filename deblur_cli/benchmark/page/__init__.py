"""The benchmark's report as one HTML file to look at; knows the records and no model, metric or console."""

from deblur_cli.benchmark.page.write import render_page

__all__ = ["render_page"]
