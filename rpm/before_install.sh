# %pre. Whatever can be known beforehand is checked here: only a %pre that fails stops rpm before it changed anything.

refuse() { say "$1"; exit 1; }

name_installing_action
remove_unfinished

existing=$root
while [ ! -d "$existing" ]; do
    existing=${existing%/*}
    existing=${existing:-/}
done

# rpm itself knows only of what it unpacks, not of what is unpacked after it.
if [ "$previous" != "$version" ]; then
    free_kib=$(df -Pk "$existing" 2>/dev/null | { read -r _; read -r _ _ _ free _; printf '%s' "$free"; })
    case $free_kib in
        '' | *[!0-9]*) ;;
        *) [ "$free_kib" -ge "$needed_kib" ] ||
            refuse "needs $needed_kib KiB on the file system of $existing, which has $free_kib KiB free" ;;
    esac
fi

probe=$existing/.$name.probe # one name: a run that was killed left none but this
{ printf '#!/bin/sh\n' >"$probe" && chmod 700 "$probe"; } 2>/dev/null || {
    rm -f "$probe" 2>/dev/null
    refuse "$existing cannot be written"
}
"$probe" 2>/dev/null || {
    rm -f "$probe"
    refuse "nothing can be run from the file system of $existing; is it mounted noexec?"
}
rm -f "$probe"

make_user || refuse "the system's user $system_user could not be made"
hook_script || exit 1
# A copy of this very version, kept from an earlier life, makes way for the package's own files.
if [ "$previous" != "$version" ]; then
    bring_back "$version"
    if [ -f "$support/kept-copy" ]; then drop "$version"; fi
fi
mark=new
if [ -e "$prefix" ] || [ -e "$support" ]; then mark=; fi
write_state installing "$version $mark" "The installation was begun and has not ended." ||
    refuse "$root cannot be written"
