#!/usr/bin/env bash
# Rewrites requirements/dev.txt from the .in files: name, version and hash, never a download address.
set -euo pipefail
cd "$(dirname "$0")/.."
uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate --quiet requirements/dev.in -o requirements/dev.txt "$@"
