"""Which songs are made: sets, so that one can be tuned on and another asked at the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Manner(StrEnum):
    SING = "sing"
    RAP = "rap"
    WHISPER = "whisper"
    SHOUT = "shout"
    SPEAK = "speak"  # at its own pace and pitch
    PLAY = "play"  # nobody sings


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    lyrics: str
    voices: tuple[str, ...]  # by turns, a line each
    style: str
    tempo: float  # beats a minute
    manner: Manner = Manner.SING
    mode: str = "major"
    intro: int = 4  # bars


S, R, W, H, P = Manner.SING, Manner.RAP, Manner.WHISPER, Manner.SHOUT, Manner.PLAY

SETS: dict[str, tuple[Plan, ...]] = {
    "dev": (
        Plan("en_sung_female_folk", "en-paper-boats", ("slt",), "folk", 108),
        Plan("en_sung_male_ballad", "en-station-clock", ("kal",), "ballad", 100),
        Plan("en_sung_duet_pop", "en-kitchen-radio", ("slt", "espeak:en-us+m3"), "pop", 112),
        Plan("en_rap_hiphop", "en-ten-dollars", ("kal",), "hiphop", 92, R, "minor"),
        Plan("es_sung_male_folk", "es-camino-del-sur", ("espeak:es+m3",), "folk", 104, S, "minor"),
        Plan("es_sung_female_pop", "es-ventana", ("espeak:es+f3",), "pop", 140),
        Plan("de_sung_male_ballad", "de-roter-mond", ("espeak:de+m1",), "ballad", 116, S, "minor"),
        Plan("fr_sung_male_pop", "fr-petite-rue", ("espeak:fr",), "pop", 136, S, "minor"),
        Plan("it_sung_female_folk", "it-barca", ("lp",), "folk", 132),
        Plan("pt_sung_male_ballad", "pt-janela", ("espeak:pt+m1",), "ballad", 132),
        Plan("en_sung_long_intro", "en-cold-window", ("slt",), "ballad", 92, S, "major", 12),
        Plan("en_shout_rock", "en-thunder-road-crew", ("ked",), "rock", 120, H, "minor"),
        Plan("en_whisper_folk", "en-slow-morning", ("slt",), "folk", 96, W),
        Plan("instrumental_pop", "", (), "pop", 112, P),
    ),
    "held": (
        Plan("en_sung_male_folk", "en-garden-gate", ("ked",), "folk", 104),
        Plan("en_sung_female_edm", "en-satellite", ("slt",), "edm", 118, S, "minor"),
        Plan("en_sung_male_pop", "en-last-bus", ("espeak:en+m7",), "pop", 108, S, "minor"),
        Plan("en_rap_edm", "en-concrete", ("espeak:en-us+m3",), "edm", 96, R, "minor"),
        Plan("es_sung_female_ballad", "es-cartas", ("espeak:es+f4",), "ballad", 128, S, "minor"),
        Plan("es_sung_male_rock", "es-tren", ("espeak:es+m7",), "rock", 116),
        Plan("de_sung_male_folk", "de-alte-brucke", ("espeak:de",), "folk", 120),
        Plan("de_sung_long_intro", "de-winterlied", ("espeak:de+m7",), "ballad", 112, S, "minor", 12),
        Plan("fr_sung_male_folk", "fr-le-port", ("espeak:fr+m1",), "folk", 132),
        Plan("it_sung_male_pop", "it-treno", ("pc",), "pop", 128, S, "minor"),
        Plan("pt_sung_male_folk", "pt-saudade", ("espeak:pt+m1",), "folk", 132),
        Plan("en_sung_duet_ballad", "en-two-houses", ("slt", "kal"), "ballad", 100),
        Plan("en_shout_rock", "en-red-flag", ("kal",), "rock", 116, H, "minor"),
        Plan("en_whisper_ballad", "en-whispering-wall", ("kal",), "ballad", 92, W, "minor"),
        Plan("instrumental_edm", "", (), "edm", 120, P, "minor"),
    ),
    "more": (
        Plan("en_sung_male_edm", "en-paper-boats", ("kal",), "edm", 120, S, "minor"),
        Plan("en_sung_female_rock", "en-station-clock", ("slt",), "rock", 112),
        Plan("en_sung_male_folk", "en-two-houses", ("ked",), "folk", 100, S, "minor"),
        Plan("en_sung_duet_folk", "en-garden-gate", ("kal", "slt"), "folk", 104),
        Plan("en_rap_pop", "en-concrete", ("ked",), "pop", 88, R),
        Plan("en_sung_female_ballad", "en-whispering-wall", ("slt",), "ballad", 96, S, "minor"),
        Plan("es_sung_female_folk", "es-tren", ("espeak:es+f3",), "folk", 128, S, "minor"),
        Plan("de_sung_male_pop", "de-winterlied", ("espeak:de+m1",), "pop", 116, S, "minor"),
        Plan("it_sung_female_ballad", "it-treno", ("lp",), "ballad", 120),
        Plan("zh_sung_female_pop", "zh-deng-ni", ("espeak:cmn-latn-pinyin+f2",), "pop", 104, S, "minor"),
    ),
}
