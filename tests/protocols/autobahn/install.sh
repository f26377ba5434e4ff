#!/usr/bin/env bash
# Installs Autobahn's WebSocket test suite, once per version, and prints the Python that has it. Progress goes to stderr.
set -euo pipefail

say() { printf 'autobahn: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
"$here/../../support/install-packages.sh" autobahn <<'PACKAGES'
python3 python3
flock util-linux
PACKAGES
python3 -c 'import ensurepip' 2>/dev/null || "$here/../../support/install-packages.sh" autobahn <<<'/usr/share/doc/python3-venv python3-venv'

cache=${NODEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodegate}/autobahn
# Another Python, or another way to install it, is another version.
version=$({ python3 -VV; cat install.sh ./*requirements.txt; } | sha256sum | cut -c 1-12)
venv=$cache/$version
python=$venv/bin/python
if [ -e "$venv/complete" ]; then
    echo "$python"
    exit 0
fi

# Several test runs may start at once: one installs, the others wait here and then find its result.
mkdir -p "$cache"
exec 9>"$cache/.lock"
if ! flock -n 9; then
    say "waiting for another installation of Autobahn's test suite"
    flock 9
fi
if [ ! -e "$venv/complete" ]; then
    say "fetching Autobahn's test suite, once, into $venv (half a minute)"
    rm -rf "$venv"
    python3 -m venv "$venv"
    pip() { "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --use-pep517 "$@" >&2 || die "pip failed, and says above why"; }
    # The suite's own packages are sources, for setuptools of their time; it needs a module of those setuptools when it runs, too.
    pip -r build-requirements.txt
    pip --no-build-isolation --no-compile -r requirements.txt

    # It is written for Python 2. From here on it is translated: by fissix, which goes by syntax, and where that isn't enough, here.
    suite=$("$python" -c 'import importlib.util as util; print(*util.find_spec("autobahntestsuite").submodule_search_locations)')
    # What else it can do isn't wanted, and needs more packages. Case 9.9.1 is none that the suite runs.
    sed -i -E '/^import (wstest|echo|broadcast|massconnect)\b/d' "$suite/__init__.py"
    sed -i '/^from case9_9_1 /d' "$suite/case/__init__.py"
    rm -rf "$suite"/{wamp*,wsperf*,case/case9_9_1.py}
    # An octet of a literal is a character: wstest.py goes by that.
    sed -i -E '1,2s/^(#.*coding[:=] *)utf-8/\1latin-1/' "$suite"/case/*.py
    # A base class in front of what is derived from it; and what was a division of integers.
    sed -i 's/(object, Case, )/(Case, )/' "$suite"/case/*.py
    sed -i 's|len(self.payload) / self|len(self.payload) // self|' "$suite/case/case10_1_1.py"
    "$python" -m fissix --write --nobackups --no-diffs "$suite" >"$venv/translated" 2>&1 || die "the translation to Python 3 failed: $venv/translated"
    touch "$venv/complete"
fi
echo "$python"
