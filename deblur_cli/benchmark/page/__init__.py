"""The benchmark's report as one HTML file to look at; knows the records and no model, metric or console."""

from deblur_cli.benchmark.page.write import write_page

__all__ = ["write_page"]
