"""Pages for a browser, from Jinja templates that escape whatever is put into them.

Knows no page: each lies beside the code that fills it; what all of them wear lies here. Jinja is imported by the first
page, not by every command.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from deblur_cli.system.wording import count

MARK = "deblur-cli page"  # in the head of every page that may be written over by the next one
_SHARED_STYLES = ("base.css", "stage.css")
_SHARED_SCRIPTS = ("dom.js", "split.js")

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


@dataclass(frozen=True, slots=True)
class Dress:
    """What a page wears: its style, its scripts, and the policy that lets nothing else run.

    Attributes:
        policy: of the content: pictures from the page itself, no script but these, nothing from a network.
        style: all style sheets, the shared ones first.
        early: the script that runs before anything is painted.
        script: all others, closed against the rest of the page.
    """

    policy: str
    style: str
    early: str
    script: str


def build_dress(
    package: str, styles: Sequence[str], scripts: Sequence[str], *, sources: str = "", more_style: str = ""
) -> Dress:
    """The shared style and scripts, and those that lie in the folder `static` of a package.

    Args:
        sources: further directives of the policy, for a page that a server gives out.
        more_style: comes after the shared sheets.
    """
    early = _shared("theme.js")
    script = "\n".join([*map(_shared, _SHARED_SCRIPTS), *(read_asset(package, f"static/{name}") for name in scripts)])
    script = f"(() => {{\n{script}\n}})();\n"
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (early, script)]
    allowed = " ".join(f"'sha256-{text}'" for text in hashes)
    policy = f"default-src 'none'; {sources or 'img-src data:'}; style-src 'unsafe-inline'; script-src {allowed}"
    sheets = [*map(_shared, _SHARED_STYLES), more_style, *(read_asset(package, f"static/{name}") for name in styles)]
    return Dress(policy, "\n".join(filter(None, sheets)), early, script)


def to_script_json(value: Any) -> str:
    """JSON that may stand inside `<script>`: no character of it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _shared(name: str) -> str:
    return read_asset(__package__, f"static/{name}")


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(name, "templates") for name in (package, __package__)])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["count"] = count
    return environment
