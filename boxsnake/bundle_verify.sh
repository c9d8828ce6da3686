#!/bin/sh
# Tells whether this bundle is whole and, with a public key that you have from elsewhere, who signed it.
# usage: sh verify.sh [KEY.asc]
# Exit status: 0 it is, 2 usage, 4 it is damaged, 5 a tool is missing, 6 it is not signed by that key.
set -eu

fail() {
    status=$1
    shift
    printf 'verify: %s\n' "$*" >&2
    exit "$status"
}

[ $# -le 1 ] || fail 2 'one key only'
key=
[ $# -eq 0 ] || key=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
cd -- "$(dirname -- "$0")"

if command -v sha256sum >/dev/null 2>&1; then
    sums='sha256sum -c'
elif command -v shasum >/dev/null 2>&1; then
    sums='shasum -a 256 -c'
else
    fail 5 'neither sha256sum nor shasum is here'
fi
bad=$(LC_ALL=C $sums SHA256SUMS 2>&1 | grep -v ': OK$') || :
strange=$(find . -type f | sed 's|^\./||' | LC_ALL=C awk '
    NR == FNR { known[substr($0, 67)] = 1; next }
    /^SHA256SUMS(\.asc)?$/ || /^signing-key\.asc$/ { next }
    !($0 in known) { print $0 " is not of this bundle" }' SHA256SUMS -)
[ -z "$bad$strange" ] || fail 4 'this bundle is damaged, copy it again:' "
$bad
$strange"
printf 'every file is as it was sent\n'

if [ -n "$key" ]; then
    [ -f SHA256SUMS.asc ] || fail 6 'it is not signed'
    command -v gpg >/dev/null 2>&1 || fail 5 'gpg is not here'
    home=$(mktemp -d)
    trap 'rm -rf "$home"' EXIT
    gpg --homedir "$home" --batch --quiet --no-autostart --import -- "$key" 2>/dev/null || fail 2 "$key is no public key"
    gpg --homedir "$home" --batch --quiet --no-autostart --trust-model always --verify SHA256SUMS.asc SHA256SUMS 2>/dev/null ||
        fail 6 'the signature is not of that key'
    printf 'and signed by that key\n'
elif [ -f SHA256SUMS.asc ]; then
    printf 'its signature was not looked at: name the key that you trust\n'
fi
