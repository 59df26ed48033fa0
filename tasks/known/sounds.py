"""What a text sounds like, letter by letter: enough to tell a word that was misheard from another one.

No language's own rules: "c", "k" and "q" are kin in all of them, "ph" is an "f", an accent changes little. Letters
of other scripts sound like themselves.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

SAME = 1.0
KIN = 0.4
OTHER = -1.2

KINS = ("bpvfw", "dt", "gkcqjx", "szcxç", "mn", "lr", "iyje", "ouw", "ae", "eo", "ao", "iu", "ei")
SPELT = (  # digraphs that are one sound, so that no letter of them is missing where another spells it otherwise
    (re.compile("ph"), "f"),
    (re.compile("qu|ck"), "k"),
    (re.compile("tsch|sch|tch|sh|ch"), "c"),
    (re.compile("th"), "d"),
    (re.compile("(?<=[a-z])h|h(?=[aeiou])|^h"), ""),
    (re.compile(r"([a-z])\1+"), r"\1"),
)
HIRAGANA_BELOW_KATAKANA = 0x60

# 0 to 20, then the tens to 90, 100 and 1000: whisper likes to write figures.
NUMBERS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa cien mil",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig hundert tausend",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf vingt trente quarante cinquante soixante soixante-dix quatre-vingts quatre-vingt-dix cent mille",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove venti trenta quaranta cinquanta sessanta settanta ottanta novanta cento mille",
    "pt": "zero um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezesseis dezessete "
    "dezoito dezenove vinte trinta quarenta cinquenta sessenta setenta oitenta noventa cem mil",
}
VALUES = (*range(21), *range(30, 100, 10), 100, 1000)


def sounds(word: str, language: str | None) -> str:
    """The word as it sounds; nothing where it is signs only."""
    folded = unicodedata.normalize("NFKD", spoken(word, language).casefold())
    letters = "".join(_sound(letter) for letter in folded if unicodedata.category(letter)[0] in "LN")
    for written, said in SPELT:
        shorter = written.sub(said, letters)
        letters = shorter or letters
    return letters


def spoken(word: str, language: str | None) -> str:
    """The word with its figures as they are said."""
    return re.sub(r"\d+", lambda digits: _said(int(digits[0][:4]), language), word)


def alike(letters: str, others: str) -> NDArray[np.float32]:
    """How alike each letter of one text is to each of another."""
    rows, columns = _codes(letters), _codes(others)
    found = np.where(rows[:, None] == columns[None, :], SAME, OTHER).astype(np.float32)
    for kin in KINS:
        among = np.outer(np.isin(rows, _codes(kin)), np.isin(columns, _codes(kin)))
        np.maximum(found, KIN, out=found, where=among & (found < KIN))
    return found


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _sound(letter: str) -> str:
    return chr(ord(letter) - HIRAGANA_BELOW_KATAKANA) if "ァ" <= letter <= "ヶ" else letter


def _said(number: int, language: str | None) -> str:
    """The number as it is said, about: "24" is "twentyfour"."""
    names = dict(zip(VALUES, NUMBERS.get(language or "", "").split(), strict=False))
    if not names:
        return str(number)
    if number in names:
        return names[number]
    if number < 100:
        return names[number // 10 * 10] + names[number % 10]
    unit = 1000 if number >= 1000 else 100
    many, rest = divmod(number, unit)
    return (names[many] if 1 < many <= 20 else "") + names[unit] + (_said(rest, language) if rest else "")
