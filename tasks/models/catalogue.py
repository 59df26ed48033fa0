"""The weights that this house knows by name: where the hub has them, about how large they are, on what terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    WHISPER = "whisper"  # hears words
    DEMUCS = "demucs"  # separates the voice from the music
    ALIGN = "align"  # times words that are known


@dataclass(frozen=True, slots=True)
class Weights:
    name: str
    kind: Kind
    repository: str  # on the hub
    megabytes: int | None = None  # about; None where nobody here has seen it
    licence: str = "see the hub"

    @property
    def marker(self) -> str:
        """The file without which a folder does not hold these weights."""
        return {Kind.WHISPER: "model.bin", Kind.DEMUCS: f"{self.name}.yaml", Kind.ALIGN: "config.json"}[self.kind]

    def needed(self, names: frozenset[str]) -> frozenset[str]:
        """Those of the repository's files that are of use."""
        if self.kind is Kind.DEMUCS:
            return frozenset(name for name in names if name == self.marker or name.endswith(".safetensors"))
        if self.kind is Kind.WHISPER:
            return names & WHISPER_FILES
        # A pickle may hold a program; transformers refuses those, but what is never fetched needs no refusal.
        weights = {"model.safetensors"} if "model.safetensors" in names else {"pytorch_model.bin"}
        return names & (ALIGN_FILES | weights)


WHISPER_FILES = frozenset(
    ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.json", "vocabulary.txt")
)
ALIGN_FILES = frozenset(
    (
        "config.json",
        "preprocessor_config.json",
        "vocab.json",
        "added_tokens.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    )
)

WHISPER = {
    "tiny": ("Systran/faster-whisper-tiny", 78),
    "tiny.en": ("Systran/faster-whisper-tiny.en", 78),
    "base": ("Systran/faster-whisper-base", 148),
    "base.en": ("Systran/faster-whisper-base.en", 148),
    "small": ("Systran/faster-whisper-small", 486),
    "small.en": ("Systran/faster-whisper-small.en", 486),
    "medium": ("Systran/faster-whisper-medium", 1530),
    "medium.en": ("Systran/faster-whisper-medium.en", 1530),
    "large-v1": ("Systran/faster-whisper-large-v1", 3090),
    "large-v2": ("Systran/faster-whisper-large-v2", 3090),
    "large-v3": ("Systran/faster-whisper-large-v3", 3090),
    "large": ("Systran/faster-whisper-large-v3", 3090),
    "large-v3-turbo": ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620),
    "turbo": ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620),
    "distil-small.en": ("Systran/faster-distil-whisper-small.en", 335),
    "distil-medium.en": ("Systran/faster-distil-whisper-medium.en", 790),
    "distil-large-v2": ("Systran/faster-distil-whisper-large-v2", 1520),
    "distil-large-v3": ("Systran/faster-distil-whisper-large-v3", 1520),
    "distil-large-v3.5": ("distil-whisper/distil-large-v3.5-ct2", 1520),
}

# Demucs' own names, and how its `hf.py` turns them into repositories.
DEMUCS_NAMESPACE = "adefossez"
DEMUCS = {
    "htdemucs": ("HTDemucs", 84),
    "htdemucs_ft": ("HTDemucs-ft", 336),
    "htdemucs_6s": ("HTDemucs-6s", 55),
    "hdemucs_mmi": ("Demucs-hdemucs_mmi", 167),
    "mdx": ("Demucs-mdx", None),
    "mdx_extra": ("Demucs-mdx_extra", None),
    "mdx_q": ("Demucs-mdx_q", None),
    "mdx_extra_q": ("Demucs-mdx_extra_q", None),
}

# WhisperX's choice, but for en, fr, de, es and it, which it takes from torchaudio by a downloader of its own: without
# a checksum, a time limit or progress that anybody sees. These come from the hub as all others do.
ALIGN_PREFIX = "align-"  # and the language
BASE, LARGE, XLS_R, BILLION = 378, 1260, 1260, 3850  # MB in float32: 95, 315, 315 and 960 million parameters
APACHE, MIT, UNSEEN = "Apache-2.0", "MIT", "see the hub"
ALIGN = {
    "en": ("facebook/wav2vec2-base-960h", BASE, APACHE),
    "fr": ("jonatasgrosman/wav2vec2-large-xlsr-53-french", LARGE, APACHE),
    "de": ("jonatasgrosman/wav2vec2-large-xlsr-53-german", LARGE, APACHE),
    "es": ("jonatasgrosman/wav2vec2-large-xlsr-53-spanish", LARGE, APACHE),
    "it": ("jonatasgrosman/wav2vec2-large-xlsr-53-italian", LARGE, APACHE),
    "ja": ("jonatasgrosman/wav2vec2-large-xlsr-53-japanese", LARGE, APACHE),
    "zh": ("jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn", LARGE, APACHE),
    "nl": ("jonatasgrosman/wav2vec2-large-xlsr-53-dutch", LARGE, APACHE),
    "uk": ("Yehor/wav2vec2-xls-r-300m-uk-with-small-lm", XLS_R, UNSEEN),
    "pt": ("jonatasgrosman/wav2vec2-large-xlsr-53-portuguese", LARGE, APACHE),
    "ar": ("jonatasgrosman/wav2vec2-large-xlsr-53-arabic", LARGE, APACHE),
    "cs": ("comodoro/wav2vec2-xls-r-300m-cs-250", XLS_R, UNSEEN),
    "ru": ("jonatasgrosman/wav2vec2-large-xlsr-53-russian", LARGE, APACHE),
    "pl": ("jonatasgrosman/wav2vec2-large-xlsr-53-polish", LARGE, APACHE),
    "hu": ("jonatasgrosman/wav2vec2-large-xlsr-53-hungarian", LARGE, APACHE),
    "fi": ("jonatasgrosman/wav2vec2-large-xlsr-53-finnish", LARGE, APACHE),
    "fa": ("jonatasgrosman/wav2vec2-large-xlsr-53-persian", LARGE, APACHE),
    "el": ("jonatasgrosman/wav2vec2-large-xlsr-53-greek", LARGE, APACHE),
    "tr": ("mpoyraz/wav2vec2-xls-r-300m-cv7-turkish", XLS_R, UNSEEN),
    "da": ("saattrupdan/wav2vec2-xls-r-300m-ftspeech", XLS_R, UNSEEN),
    "he": ("imvladikon/wav2vec2-xls-r-300m-hebrew", XLS_R, UNSEEN),
    "vi": ("nguyenvulebinh/wav2vec2-base-vi-vlsp2020", BASE, UNSEEN),
    "ko": ("kresnik/wav2vec2-large-xlsr-korean", LARGE, UNSEEN),
    "ur": ("kingabzpro/wav2vec2-large-xls-r-300m-Urdu", XLS_R, UNSEEN),
    "te": ("anuragshas/wav2vec2-large-xlsr-53-telugu", LARGE, UNSEEN),
    "hi": ("theainerd/Wav2Vec2-large-xlsr-hindi", LARGE, UNSEEN),
    "ca": ("softcatala/wav2vec2-large-xlsr-catala", LARGE, UNSEEN),
    "ml": ("gvs/wav2vec2-large-xlsr-malayalam", LARGE, UNSEEN),
    "no": ("NbAiLab/nb-wav2vec2-1b-bokmaal-v2", BILLION, UNSEEN),
    "nn": ("NbAiLab/nb-wav2vec2-1b-nynorsk", BILLION, UNSEEN),
    "sk": ("comodoro/wav2vec2-xls-r-300m-sk-cv8", XLS_R, UNSEEN),
    "sl": ("anton-l/wav2vec2-large-xlsr-53-slovenian", LARGE, UNSEEN),
    "hr": ("classla/wav2vec2-xls-r-parlaspeech-hr", XLS_R, UNSEEN),
    "ro": ("gigant/romanian-wav2vec2", XLS_R, UNSEEN),
    "eu": ("stefan-it/wav2vec2-large-xlsr-53-basque", LARGE, UNSEEN),
    "gl": ("ifrz/wav2vec2-large-xlsr-galician", LARGE, UNSEEN),
    "ka": ("xsway/wav2vec2-large-xlsr-georgian", LARGE, UNSEEN),
    "lv": ("jimregan/wav2vec2-large-xlsr-latvian-cv", LARGE, UNSEEN),
    "tl": ("Khalsuu/filipino-wav2vec2-l-xls-r-300m-official", XLS_R, UNSEEN),
    "sv": ("KBLab/wav2vec2-large-voxrex-swedish", LARGE, UNSEEN),
    "id": ("cahya/wav2vec2-large-xlsr-indonesian", LARGE, UNSEEN),
}

CATALOGUE: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        *(Weights(name, Kind.WHISPER, repository, size, MIT) for name, (repository, size) in WHISPER.items()),
        *(Weights(name, Kind.DEMUCS, f"{DEMUCS_NAMESPACE}/{end}", size, MIT) for name, (end, size) in DEMUCS.items()),
        *(Weights(f"{ALIGN_PREFIX}{language}", Kind.ALIGN, *known) for language, known in ALIGN.items()),
    )
}


def known(name: str, kind: Kind) -> Weights | None:
    weights = CATALOGUE.get(name)
    return weights if weights and weights.kind is kind else None
