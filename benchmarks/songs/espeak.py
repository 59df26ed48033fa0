"""What espeak-ng's library says, and when it says each word and sound, into a file: a program of its own.

python -m benchmarks.songs.espeak VOICE TEXT FILE.npz
"""

from __future__ import annotations

import ctypes as c
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD, PHONE = 1, 7  # kinds of events
RETRIEVE = 1  # the sound is handed over, not played
PHONES_IN_IPA = 1 | 2
UTF8 = 1
RATE = 1  # the parameter
WORDS_A_MINUTE = 120  # slowly, so that consonants are clear when they are sung


class Event(NamedTuple):
    kind: int
    place: int  # in the text: characters, from 1
    moment: float  # seconds
    label: str  # of a sound, in IPA


COLUMNS = Event._fields


class _Id(c.Union):
    _fields_ = (("number", c.c_int), ("name", c.c_char_p), ("string", c.c_char * 8))


class _Event(c.Structure):
    _fields_ = (
        ("type", c.c_int),
        ("unique", c.c_uint),
        ("text_position", c.c_int),  # characters, from 1
        ("length", c.c_int),
        ("audio_position", c.c_int),  # ms
        ("sample", c.c_int),
        ("user_data", c.c_void_p),
        ("id", _Id),
    )


HEARD = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_Event))


def say(text: str, voice: str) -> tuple[NDArray[np.int16], int, list[Event]]:
    """The sound, its samples a second, and what happened in it."""
    try:
        library = c.CDLL("libespeak-ng.so.1")
    except OSError:
        sys.exit("espeak-ng is not here: apt-get install espeak-ng")
    rate = library.espeak_Initialize(RETRIEVE, 0, None, PHONES_IN_IPA)
    pieces: list[NDArray[np.int16]] = []
    events: list[Event] = []

    def heard(sound: c._Pointer[c.c_short], count: int, happened: c._Pointer[_Event]) -> int:
        if sound and count:
            pieces.append(np.ctypeslib.as_array(sound, (count,)).copy())
        nth = 0
        while happened[nth].type:
            event = happened[nth]
            label = event.id.string.decode(errors="replace") if event.type == PHONE else ""
            events.append(Event(event.type, event.text_position, event.audio_position / 1000, label))
            nth += 1
        return 0

    callback = HEARD(heard)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()):
        sys.exit(f"espeak-ng has no voice {voice}: apt-get install espeak-ng-data")
    library.espeak_SetParameter(RATE, WORDS_A_MINUTE, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8, None, None)
    library.espeak_Synchronize()
    return np.concatenate(pieces), rate, events


def main() -> None:
    voice, text, path = sys.argv[1:]
    sound, rate, events = say(text, voice)
    columns = {name: [getattr(event, name) for event in events] for name in COLUMNS}
    np.savez(path, sound=sound, rate=rate, **columns)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
