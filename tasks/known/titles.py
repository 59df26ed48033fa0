"""Artist and title of a song, out of what a video or a file is called."""

from __future__ import annotations

import re

# What a bracket says that is not of the song's name: which video, which recording, who sings along.
ASIDE = (
    r"official|officiel|oficial|offizielle[sr]?|ufficiale|video|vídeo|clip|audio|áudio|lyrics?|letra|paroles|testo|visuali[sz]er"
    r"|hd|hq|4k|uhd|1080p|720p|m/?v|karaoke|remaster(ed)?|explicit|clean|legendado|sub(titulado|s)?|color coded"
    r"|feat|ft|with|prod|out now|premiere"
)
BRACKETS = re.compile(rf"[(\[【{{][^)\]】}}]*\b(?:{ASIDE})\b[^)\]】}}]*[)\]】}}]", re.IGNORECASE)
LOOSE = re.compile(
    r"\s+(?:[|/•]\s.*|-\s+(?:\d{4}\s+)?remaster(?:ed)?\b.*|(?:official|oficial)\s+(?:(?:music|lyrics?)\s+)?(?:video|audio|clip)\b.*"
    r"|(?:feat|ft)\.?\s.*|lyrics?|hd|hq|m/v)$",
    re.IGNORECASE,
)
BETWEEN = re.compile(r"\s+[-–—―~]\s+|\s*[–—―]\s*")
CHANNEL = re.compile(r"\s*-\s*Topic$|\s*VEVO$|\s+(?:Official|Music|TV|Channel)$", re.IGNORECASE)
QUOTES = re.compile('["“”„«»「」『』]')


def named(title: str | None, artist: str | None) -> tuple[str, str] | None:
    """Artist and title as a catalogue would have them; None where one of them is not known.

    What stands before a dash is the artist; without one it is whoever put the song there.
    """
    song = _plain(title or "")
    if parts := BETWEEN.split(song, 1):
        before, after = (_trimmed(part) for part in (*parts, "")[:2])
        if before and after:
            return (_plain(before), after) if not _same(after, artist) else (after, before)
    singer = _trimmed(CHANNEL.sub("", artist or ""))
    name = _trimmed(song)
    return (singer, name) if singer and name else None


def _plain(text: str) -> str:
    """Without the asides, in brackets or behind the name."""
    text = BRACKETS.sub(" ", text)
    while (shorter := LOOSE.sub("", text.strip())) != text:
        text = shorter
    return _trimmed(text)


def _trimmed(text: str) -> str:
    return " ".join(QUOTES.sub(" ", text).split())


def _same(name: str, artist: str | None) -> bool:
    """Whether this is the artist's name: some write the title first."""
    singer = CHANNEL.sub("", artist or "")
    return bool(singer) and _letters(name) == _letters(singer)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
