# %pre and preinst of an environment that is a package of its own.

refuse() { say "$1"; exit 1; }

# What an installation left that was killed while the files of an environment were unpacked. "new" says that nothing
# else was in its folders.
for mark in "$root"/install/.laying-*; do
    if [ ! -f "$mark" ]; then continue; fi
    unfinished=${mark##*/.laying-}
    remove_unpacked "$root/$unfinished"
    remove_unpacked "$root/install/$unfinished"
    if [ "$(cat "$mark")" = new ] && [ "$unfinished" != "$version" ] && [ "$unfinished" != "$(current)" ]; then
        rm -rf "${root:?}/${unfinished:?}" "$root/install/$unfinished"
        rm -f "$mark"
    fi
done

check_host
# A copy of this very version, kept from an earlier life, makes way for the package's own files.
if [ "$(current)" != "$version" ]; then
    bring_back "$version"
    if [ -f "$support/kept-copy" ]; then drop "$version"; fi
fi
mark=$root/install/.laying-$version
if [ ! -f "$mark" ]; then
    word=new
    if [ -e "$prefix" ] || [ -e "$support" ]; then word=; fi
    { mkdir -p "$root/install" && printf '%s\n' "$word" >"$mark"; } || refuse "$root cannot be written"
fi
