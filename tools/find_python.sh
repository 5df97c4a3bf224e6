#!/bin/sh
# Print an interpreter that set-up can use: $PYTHON if given, else the first new enough one on PATH.
# POSIX shell, because the Python at hand may be too old to read setup_environment.py.
set -u

if [ -n "${PYTHON:-}" ]; then
  set -- "$PYTHON"
else
  set -- python3.11 python3.12 python3.13 python3 python # 3.11 first: constraints.txt was verified with it
fi

found=
for name in "$@"; do
  version=$("$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2> /dev/null) || continue
  if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    command -v "$name"
    exit 0
  fi
  found="${found:+$found, }$name is $version"
done

echo "setup: error: Python 3.11 or newer is needed; found: ${found:-none} (looked for $*)" >&2
echo "  install one (Debian: apt-get install python3 python3-venv python3-dev), or name one: make setup PYTHON=..." >&2
exit 2
