"""One self-contained HTML file, without scripts and without network access."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from facecade.base.artifact import write_text

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A heading and its content; parts: made by the functions of html/elements.py."""

    title: str
    parts: Sequence[Markup]

    @property
    def anchor(self) -> str:
        """The section's id, for links."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section], footer: str) -> None:
    """Write the file; empty sections are left out."""
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("page.html")
    shown = [section for section in sections if section.parts]
    write_text(path, template.render(title=title, subtitle=subtitle, sections=shown, footer=footer))
