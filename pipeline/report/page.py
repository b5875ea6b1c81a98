"""Elements → one HTML file, by the templates beside this file."""

import json
from typing import Any, Sequence

import jinja2
import markupsafe

from pipeline import files
from pipeline.report.elements import Section


def _json(value: Any) -> markupsafe.Markup:
    """JSON as it may stand in a script element: no name of a class can end it."""
    return markupsafe.Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined)
    environment.filters["json"] = _json
    return environment


def render(title: str, split: str, sections: Sequence[Section]) -> str:
    return _environment().get_template("page.html").render(title=title, split=split, sections=sections)


def write(path: str, title: str, split: str, sections: Sequence[Section]) -> None:
    files.write_whole(path, render(title, split, sections))
