"""Songs made for this project, of which every word and its time is known: written, sung, played and mixed here.

    python -m benchmarks.songs --out DIR

The voices are those of Debian's espeak-ng and festival, set to a melody by WORLD (pyworld); fluidsynth plays.
"""
