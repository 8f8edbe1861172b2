#!/bin/sh
# Takes the README's pictures of a run report with headless Chromium:
#   docs/images/render.sh output/runs/movielens-100k/*/report.html
# The last file wins, so a glob means the newest run.
set -eu
for report in "$@"; do :; done
folder=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

take() { # name, height, style added to the page
    { cat "$report"; printf '<style>%s</style>' "$3"; } > "$work/page.html"
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$work/profile" --window-size="1120,$2" \
        --screenshot="$folder/$1.png" "file://$work/page.html" 2> "$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    ls -l "$folder/$1.png"
}

take report 1000 ''
take interests 860 'header, nav, footer, section:not(#people) { display: none }'
