#!/bin/sh
# Installs the wheelhouse that this file lies in: offline, with nothing but a Python of the right version.
set -eu

name='@NAME@'
version='@VERSION@'
minors='@PYTHON@'
either='@EITHER@'

usage() {
    cat <<END
usage: install.sh [--python PYTHON] [--from OLD] PREFIX
       install.sh [--python PYTHON] [--from OLD] --check
       install.sh [--python PYTHON] --from OLD
       install.sh --verify

Installs $name $version into the folder PREFIX, as a virtual environment of this
machine's Python $either. An earlier installation in PREFIX is replaced in one step.

  --python PYTHON  the Python $either to use (else it is looked for in PATH)
  --from OLD       first complete this house, if it is a delta, from the earlier
                   wheelhouse OLD that it was made against
  --check          only tell whether the wheelhouse is whole and fits this machine
  --verify         only tell whether it is whole; needs no Python
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

verify() {
    if [ -f "$house/DELTA" ]; then
        fail 4 'this is a delta: complete it from the earlier wheelhouse, with --from OLD'
    fi
    if command -v sha256sum >/dev/null 2>&1; then
        sums='sha256sum -c'
    elif command -v shasum >/dev/null 2>&1; then
        sums='shasum -a 256 -c'
    else
        fail 5 'neither sha256sum nor shasum is here: use python install.py --verify'
    fi
    bad=$(cd "$house" && LC_ALL=C $sums SHA256SUMS 2>&1 | grep -v ': OK$') || :
    strange=$(cd "$house" && find wheels -name '*.whl' | LC_ALL=C awk '
        NR == FNR { known[substr($0, 67)] = 1; next }
        !($0 in known) { print $0 " is not of this house" }' SHA256SUMS -)
    [ -z "$bad$strange" ] || fail 4 'this wheelhouse is damaged, copy it again:' "
$bad
$strange"
    printf '%s %s is whole\n' "$name" "$version"
}

python=
prefix=
check=
verify=
old=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --check) check=yes ;;
    --verify) verify=yes ;;
    --from)
        [ $# -ge 2 ] || fail 2 '--from needs a value'
        old=$2
        shift
        ;;
    --from=*) old=${1#--from=} ;;
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
[ -n "$prefix$check$verify$old" ] || fail 2 'name the folder to install into; see --help'

house=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || fail 5 "cannot enter the folder of $0"

if [ -n "$verify" ]; then
    verify
    exit 0
fi

# What runs next is checked first; Python then checks it all.
if command -v sha256sum >/dev/null 2>&1; then
    (cd "$house" && grep '  install\.py$' SHA256SUMS | sha256sum -c >/dev/null 2>&1) ||
        fail 4 'this wheelhouse is damaged (install.py has changed): copy it again'
fi

is_wanted() {
    case " $minors " in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

# A house for several machines has Pythons that do for some of them alone.
fits() {
    case $minors in
    *' '*) "$1" -I -B "$house/install.py" --fits >/dev/null 2>&1 ;;
    *) return 0 ;;
    esac
}

if [ -n "$python" ]; then
    found=$(minor_of "$python") || fail 3 "$python is not a Python that runs"
    is_wanted "$found" || fail 3 "Python $either is needed, $python is $found"
else
    seen=
    second=
    for candidate in $(printf 'python%s ' $minors) python3 python; do
        found=$(minor_of "$candidate") || continue
        if ! is_wanted "$found"; then
            seen="$seen, $candidate is $found"
        elif fits "$candidate"; then
            python=$candidate
            break
        else
            second=${second:-$candidate}
        fi
    done
    # One that does not fit says best itself why.
    python=${python:-$second}
    [ -n "$python" ] || fail 3 "Python $either is needed and not in PATH$seen; install it, or name it with --python"
fi

set -- "$python" -I -B "$house/install.py"
[ -z "$old" ] || set -- "$@" --from "$old"
[ -z "$check" ] || set -- "$@" --check
[ -z "$prefix" ] || set -- "$@" -- "$prefix"
exec "$@"
