#!/usr/bin/env bash
# Fetches the browser libraries the console ships, by package name and exact version, and lists them in VENDORED.md.
# Needs npm on the machine of whoever updates a version; nobody else ever runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
target="$PWD/console/static/vendor"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# package version | licence (SPDX) | what for | files kept, the licence texts among them
libraries=(
  "htmx.org 4.0.1 | 0BSD | fragments, morphing swaps | dist/htmx.min.js LICENSE"
  "echarts 6.1.0 | Apache-2.0 | charts and the grid map (only the whole build draws maps) | dist/echarts.min.js LICENSE NOTICE"
  "@picocss/pico 2.1.1 | MIT | base styles | css/pico.min.css LICENSE.md"
)

rm -rf "$target"
mkdir -p "$target"
{
  echo "# Vendored browser libraries"
  echo
  echo "Copied unchanged out of the published packages by \`scripts/vendor.sh\`; \`tests/console\` compares the hashes."
  echo
  echo "| package | version | licence | used for | file | bytes | SHA-256 |"
  echo "| --- | --- | --- | --- | --- | --- | --- |"
} > "$target/VENDORED.md"

for line in "${libraries[@]}"; do
  IFS='|' read -r package licence purpose files <<< "$line"
  read -r name version <<< "$package"
  read -r licence <<< "$licence"
  purpose="$(sed 's/^ *//; s/ *$//' <<< "$purpose")"
  archive="$(cd "$work" && npm pack --silent "$name@$version")"
  mkdir "$work/$archive.d"
  tar -xzf "$work/$archive" -C "$work/$archive.d"
  folder="${name##*/}-$version"
  mkdir "$target/$folder"
  for file in $files; do
    kept="$folder/$(basename "$file")"
    install -m 644 "$work/$archive.d/package/$file" "$target/$kept"
    sum="$(sha256sum "$target/$kept" | cut -d' ' -f1)"
    echo "| $name | $version | $licence | $purpose | $kept | $(stat -c %s "$target/$kept") | \`$sum\` |" >> "$target/VENDORED.md"
  done
done
