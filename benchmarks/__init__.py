"""Every figure in the README and docs, by one command each; the last line printed is one JSON object.

python -m benchmarks.up        seconds to a ready stack, and to a stopped one
python -m benchmarks.submit    milliseconds in which POST /api/jobs answers
python -m benchmarks.words     words, times and speed against plain faster-whisper on the demo song
"""
