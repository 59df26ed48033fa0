#!/bin/sh
# Brings the jobs table forward, makes pools and work queues, deploys the flows. Done again it changes nothing.
set -eu
cd "$(dirname "$0")/../.."

python -c "from infra.database import url; from infra.jobs.migrate import migrate; migrate(url())"
yt-lyrics deploy
