"""Pages for a browser, from Jinja templates that escape whatever is put into them.

Knows no page: each lies beside the code that fills it. Jinja is imported by the first page, not by every command.
"""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(package: str, template: str, /, **values: Any) -> "Markup":
    """The template of that name in the folder `templates` of a package, filled; text in the values is escaped."""
    from markupsafe import Markup

    return Markup(_environment(package).get_template(template).render(values))


def read_asset(package: str, name: str) -> str:
    """A style sheet or a script that lies in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(package, "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
