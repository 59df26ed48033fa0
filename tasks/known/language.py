"""In which language a text is written, where its letters or its small words say so."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

SMALL = {
    "en": "the and you your i'm i to of my me it is in that on with for be we are not this don't was will when all "
    "what just she he have no so know never there from where they down up like can one day night",
    "es": "el la los las de que y no en mi tu te me se un una por con para es yo más pero como si al lo sin ya del "
    "está quiero cuando donde todo nada amor noche este esta soy tú él muy hay",
    "de": "der die das und ich du nicht ein eine ist mit mir mich dich dir den dem zu im in auf für wir sie es war bin "
    "bist hast hab wie was wenn nur noch so auch doch kein immer mehr durch nacht",
    "fr": "le la les de des et je tu il elle nous vous ne pas un une est dans que qui pour mon ma mes ton ta sur avec "
    "c'est j'ai au aux du en plus moi toi où comme sans tout ce cette suis quand",
    "it": "il lo la gli le di che e non un una per con mi ti si è sono nel nella del della come più ma se io tu mio "
    "mia tuo tua questo quando dove tutto cosa al alla sei ho hai amore notte anche",
    "pt": "o a os as de que e não um uma em no na do da me te se meu minha seu sua por com para eu você é mais mas "
    "como quando onde tudo nada pra vou está esse essa são já ao sem tem",
}
SCRIPTS = {  # of one language; Cyrillic and Arabic letters are those of many
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "GREEK": "el", "HEBREW": "he",
    "THAI": "th", "DEVANAGARI": "hi", "CJK": "zh",
}  # fmt: skip
CERTAIN = 1.3  # times as many small words as of the language that comes second
ENOUGH = 5  # of them


def language_of(text: str) -> str | None:
    """None where it cannot be told, or where several languages share the letters."""
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0].split("-")[0] for letter in text if letter.isalpha())
    own = {script: count for script, count in scripts.items() if script in SCRIPTS}
    if sum(own.values()) * 2 > sum(scripts.values()):
        return "ja" if own.keys() & {"HIRAGANA", "KATAKANA"} else SCRIPTS[max(own, key=lambda script: own[script])]
    words = Counter(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.casefold().replace("’", "'")))
    found = {language: sum(words[word] for word in small.split()) for language, small in SMALL.items()}
    first, second = sorted(found, key=lambda language: found[language], reverse=True)[:2]
    return first if found[first] >= max(ENOUGH, CERTAIN * found[second]) else None
