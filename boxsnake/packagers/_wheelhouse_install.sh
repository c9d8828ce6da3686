#!/bin/sh
# Installs the wheelhouse that this file lies in: offline, with nothing but a Python of the right version.
set -eu

name='@NAME@'
version='@VERSION@'
minor='@PYTHON@'

usage() {
    cat <<END
usage: install.sh [--python PYTHON] PREFIX
       install.sh [--python PYTHON] --check

Installs $name $version into the folder PREFIX, as a virtual environment of this
machine's Python $minor. An earlier installation in PREFIX is replaced in one step.

  --python PYTHON  the Python $minor to use (else it is looked for in PATH)
  --check          only tell whether the wheelhouse is whole and fits this machine
  --help           show this

Exit status: 0 done, 2 usage, 3 this machine does not fit, 4 the wheelhouse is
damaged, 5 it failed; nothing is left behind where it is not 0.
END
}

fail() {
    status=$1
    shift
    printf 'install: %s\n' "$*" >&2
    exit "$status"
}

minor_of() {
    "$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

python=
prefix=
check=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --check) check=yes ;;
    --python)
        [ $# -ge 2 ] || fail 2 '--python needs a value'
        python=$2
        shift
        ;;
    --python=*) python=${1#--python=} ;;
    --)
        shift
        break
        ;;
    -*) fail 2 "unknown option $1; see --help" ;;
    *)
        [ -z "$prefix" ] || fail 2 "one PREFIX only, not also $1"
        prefix=$1
        ;;
    esac
    shift
done
if [ $# -gt 0 ]; then
    if [ -n "$prefix" ] || [ $# -gt 1 ]; then
        fail 2 'one PREFIX only'
    fi
    prefix=$1
fi
[ -n "$prefix$check" ] || fail 2 'name the folder to install into; see --help'

house=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || fail 5 "cannot enter the folder of $0"

# What runs next is checked first; Python then checks it all.
if command -v sha256sum >/dev/null 2>&1; then
    (cd "$house" && grep '  install\.py$' SHA256SUMS | sha256sum -c >/dev/null 2>&1) ||
        fail 4 'this wheelhouse is damaged (install.py has changed): copy it again'
fi

if [ -n "$python" ]; then
    found=$(minor_of "$python") || fail 3 "$python is not a Python that runs"
    [ "$found" = "$minor" ] || fail 3 "Python $minor is needed, $python is $found"
else
    seen=
    for candidate in "python$minor" python3 python; do
        found=$(minor_of "$candidate") || continue
        if [ "$found" = "$minor" ]; then
            python=$candidate
            break
        fi
        seen="$seen, $candidate is $found"
    done
    [ -n "$python" ] || fail 3 "Python $minor is needed and not in PATH$seen; install it, or name it with --python"
fi

if [ -n "$check" ]; then
    exec "$python" -I -B "$house/install.py" --check
fi
exec "$python" -I -B "$house/install.py" -- "$prefix"
