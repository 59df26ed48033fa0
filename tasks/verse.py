"""What a word is in a verse: its letters and its rhyme. By its spelling alone: cheap, and only about right."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

VOWELS = "aeiouyœæøаеёиоуыэюяіїєαεηιουω"  # after accents are taken off
SOUNDS = re.compile(f"[{VOWELS}]+")

SILENT = {  # endings that are written, not sung
    "en": re.compile(r"(?<=[^aeiou])e(?=s?$)|(?<=[^aeioudt])e(?=d$)"),
    "fr": re.compile(r"(?<=.)(?:e|es|ent|[sxtdp]+)$"),
}
UNSTRESSED = {  # endings after which the vowel before carries the rhyme
    "de": re.compile(r"(?:e|en|er|el|em|es|et|est)$"),
    "en": re.compile(r"(?:(?<![aeo])y|ies|ing|er|ers|ed|en|le|ow)$"),
    "es": re.compile(r"[aeo][ns]?$"),
    "it": re.compile(r"[aeio]$"),
    "pt": re.compile(r"[aeo](?:s|m)?$"),
}
ROMANCE = ("es", "it", "pt")  # where an accent tells the stress
ALIKE = {  # spellings of one sound, the longer first
    "en": (("ough", "o"), ("igh", "i"), ("ai", "a"), ("ay", "a"), ("ea", "e"), ("ee", "e"), ("oa", "o"), ("ow", "o")),
    "fr": (("eau", "o"), ("au", "o"), ("ai", "e"), ("ei", "e"), ("er", "e"), ("ez", "e")),
    "de": (("ie", "i"), ("ah", "a"), ("eh", "e"), ("oh", "o"), ("uh", "u"), ("ai", "ei"), ("dt", "t")),
}


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """The letters and digits alone: "Water," → "water"."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=4096)
def rhyme(text: str, language: str | None) -> str:
    """From the last stressed vowel on: "water" → "ater". Empty where there is none."""
    written = plain(text)
    word = _spoken(written, language)
    # Of vowels in a row the last one rhymes where the voice falls after them: "fiore" → "ore".
    sounds = [sound.end() - 1 if language in ROMANCE else sound.start() for sound in SOUNDS.finditer(word)]
    if not sounds:
        return ""
    accents = [i for i, letter in enumerate(written) if letter in "áéíóúàèìòùâêôãõ"] if language in ROMANCE else []
    weak = UNSTRESSED.get(language or "")
    falling = len(sounds) > 1 and weak is not None and weak.search(word)
    begin = accents[-1] if accents else sounds[-2 if falling else -1]
    tail = word[begin:]
    for spelling, sound in ALIKE.get(language or "", ()):
        tail = tail.replace(spelling, sound)
    return tail


def _spoken(word: str, language: str | None) -> str:
    """Without its accents, letter for letter, and without its silent end."""
    bare = "".join(unicodedata.normalize("NFD", letter)[0] for letter in word)
    silent = SILENT.get(language or "")
    return silent.sub("", bare) if silent else bare
