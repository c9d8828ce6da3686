#!/bin/sh
# Stands for a command of a version whose installation failed while there was no other version to go on with.
here=$(dirname "$(readlink -f "$0")")
printf '%s: not installed completely\n' "${0##*/}" >&2
tail -n +2 "$here/../../state" >&2
printf 'Install it again: dnf reinstall, or apt-get install --reinstall.\n' >&2
exit 1
