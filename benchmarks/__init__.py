"""Every figure in the README and docs, by one command each; the last line printed is one JSON object.

python -m benchmarks.up        seconds to a ready stack, and to a stopped one
python -m benchmarks.submit    milliseconds in which POST /api/jobs answers
python -m benchmarks.again     milliseconds from POST to completed of a song that was made before
python -m benchmarks.kept      milliseconds that fetch takes where the sound is kept
python -m benchmarks.download  MB/s through the ladder's first route, against plain yt-dlp
python -m benchmarks.pickup    seconds from creating a flow run to its first line, against Prefect's process worker
python -m benchmarks.drain     short jobs a minute through everything; what a thousand waiting jobs cost
python -m benchmarks.overhead  seconds that all around the work costs a real song
python -m benchmarks.memory    whether a warm child's memory stays flat over 200 songs
python -m benchmarks.songs     makes songs whose words and times are known
python -m benchmarks.words     words, times and lines of such songs against faster-whisper, stable-ts and whisperx
python -m benchmarks.score     one document against its truth
python -m benchmarks.separate  the separator against Demucs' own loop: speed, memory, difference
python -m benchmarks.transcribe  the transcription step against plain faster-whisper
python -m benchmarks.align     word times against whisperx' own alignment, the same model
python -m benchmarks.gpu_stage the whole GPU stage against the commands `demucs`, then `whisperx`
python -m benchmarks.letters   trains the network that knows which letter of known lyrics is sung
python -m benchmarks.offsets   how early or late each model's words begin
python -m benchmarks.long      memory of long songs
"""
