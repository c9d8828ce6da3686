usage() {
    cat <<END
usage: sh ${0##*/} [--prefix DIR | --user] [--yes]
       sh ${0##*/} --extract-only DIR
       sh ${0##*/} --verify | --info | --help

Installs $title with its own Python: into DIR/lib/$app, its commands into
DIR/bin. It needs no network, and nothing of this machine but a shell and glibc.

  --prefix DIR        where to (root: /usr/local, others: ~/.local)
  --user              into ~/.local
  --yes               do not ask
  --extract-only DIR  only put the environment into DIR, a folder without content
  --verify            only tell whether this file is whole
  --info              tell what this file holds

Installed, $app-ctl shows and checks the versions, goes back to an earlier one,
and uninstalls.

Exit status: 0 done, 1 the installation failed and the earlier version is in
use, 2 usage, 3 this machine does not fit, 4 this file is damaged.
END
}

# An absolute path, in its shortest form, for a folder that need not be there yet.
resolve() {
    rest=
    found=$1
    while [ ! -d "$found" ]; do
        last=${found##*/}
        case $last in
            . | ..) fail 2 "$1 is not there" ;;
            ?*) rest=/$last$rest ;;
        esac
        case $found in
            */*) found=${found%/*} ;;
            *) found=. ;;
        esac
        found=${found:-/}
    done
    found=$(CDPATH='' cd -P -- "$found" && pwd) || fail 3 "$1 cannot be entered"
    printf '%s' "${found%/}$rest"
}

task=install
given=
yes=
while [ "$#" -gt 0 ]; do
    case $1 in
        --help | -h) task=help ;;
        --info) task=info ;;
        --verify) task=verify ;;
        --yes | -y) yes=yes ;;
        --user) given=${HOME:?}/.local ;;
        --prefix=*) given=${1#--prefix=} ;;
        --extract-only=*) task=extract && given=${1#--extract-only=} ;;
        --prefix | --extract-only)
            [ -n "${2-}" ] || fail 2 "$1 needs a folder"
            if [ "$1" = --extract-only ]; then task=extract; fi
            given=$2
            shift
            ;;
        *) fail 2 "$1 is not known; see --help" ;;
    esac
    shift
done

case $task in
    help) usage && exit ;;
    verify) printf '%s is whole\n' "${0##*/}" && exit ;;
    info) printf '%s\n' "$facts" && exit ;;
esac

[ "$(uname -s)" = Linux ] || fail 3 "is for Linux, and this is $(uname -s)"
[ "$(uname -m)" = "$machine" ] || fail 3 "is for $machine, and this is $(uname -m)"
[ -e "$loader" ] || fail 3 "needs the GNU C library, whose $loader is not there"
found=$(getconf GNU_LIBC_VERSION 2>/dev/null || "$loader" --version 2>/dev/null | head -n 1)
found=$(printf '%s' "$found" | sed 's/.* \([0-9]*\.[0-9]*\)\.*$/\1/')
case $found in
    *[!0-9.]* | '') ;;
    *) [ "$((${found%%.*} * 1000 + ${found#*.}))" -ge "$((${glibc%%.*} * 1000 + ${glibc#*.}))" ] ||
        fail 3 "needs glibc $glibc or newer, and this machine has $found" ;;
esac

if [ -z "$given" ]; then
    if [ "$(id -u)" -eq 0 ]; then given=/usr/local; else given=${HOME:?}/.local; fi
fi
place=$(resolve "$given") || exit
