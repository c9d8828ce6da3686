#!/bin/sh
# Starts the application out of the image or of the folder that this file lies in.
here=$(CDPATH='' cd -- "${0%/*}" && pwd -P) || exit 125
prefix=$here/tree

refuse() {
    printf '%s: %s\n' '@NAME@' "$1" >&2
    exit 125
}

# What depends on the prefix was placed for one prefix, and no other.
placed=$here/.boxsnake/prefix
[ -f "$placed" ] || placed=${here%/*}/placed/prefix
[ -f "$placed" ] || refuse "start the file that this image is a part of, or extract it with --appimage-extract."
IFS= read -r found <"$placed"
[ "$found" = "$prefix" ] || refuse "$here is not where it was extracted. Extract it again, there."

export APPDIR="$here" PATH="$prefix/bin:${PATH-/usr/local/bin:/usr/bin:/bin}" PYTHONNOUSERSITE=1
# They are meant for other interpreters.
unset PYTHONHOME PYTHONPATH PYTHONEXECUTABLE
@ENVIRONMENT@
run=${BOXSNAKE_RUN-}
unset BOXSNAKE_RUN
case $run in
'') set -- @COMMAND@ "$@" ;;
.selfcheck) set -- python -I -B "$here/.boxsnake/selfcheck.py" ;;
@COMMANDS@*:*) set -- python -c 'import importlib, sys
module, _, names = sys.argv.pop(1).partition(":")
found = importlib.import_module(module)
for name in names.split("."):
    found = getattr(found, name)
sys.argv[0] = module
sys.exit(found())' "$run" "$@" ;;
*) set -- "$run" "$@" ;;
esac
case $1 in
/*) program=$1 ;;
*) program=$prefix/bin/$1 ;;
esac
[ -x "$program" ] || refuse "there is no program $1 in it."
shift
exec "$program" "$@"
