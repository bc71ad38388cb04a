#!/bin/sh
# The tests of the pages run in a real Chromium. Called by `make test`; installs Debian's where there is none.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy chromium fonts-dejavu-core
else
    echo "The tests of the pages need Chromium. Install it: sudo apt-get install chromium fonts-dejavu-core" >&2
    exit 1
fi
