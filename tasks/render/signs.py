"""Which format a file is in: by its suffix, or by what stands in it."""

from __future__ import annotations

import re

from infra.jobs.request import Format
from tasks.render.clock import TIME

SUFFIXES = {
    **{f".{fmt}": fmt for fmt in Format},
    ".webvtt": Format.VTT,
    ".ssa": Format.ASS,
    ".dfxp": Format.TTML,
}

SIGNS = {  # the first that is found says it
    Format.VTT: r"\AWEBVTT\b",
    Format.JSON: r"\A\s*\{\s*[\"}]",
    Format.TTML: r"\A\s*<(\?xml|!DOCTYPE|(\w+:)?tt\b)",
    Format.ASS: r"^(\[Script Info\]|Dialogue:)",
    Format.SRT: rf"^[ \t]*{TIME}[ \t]*-->",
    Format.ELRC: rf"^[ \t]*\[{TIME}\].*[<\[]{TIME}[>\]]",
    Format.LRC: rf"^[ \t]*\[({TIME}\]|(ti|ar|length):)",
}


def looks_like(text: str) -> Format:
    """The format that the text's own signs speak for; plain text if none does."""
    found = (fmt for fmt, sign in SIGNS.items() if re.search(sign, text.removeprefix("\ufeff"), re.MULTILINE))
    return next(found, Format.TXT)
