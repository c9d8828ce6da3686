# %preun and prerm of an environment that is a package of its own.

if stays "$1"; then exit 0; fi
if [ "$(current)" = "$version" ]; then
    say "is in use and stays; put another version into use before ($root/bin/$name-ctl rollback VERSION)"
    exit 1
fi
if is_listed "$version"; then
    copy_aside "$version" || say "is not kept, because no copy of it could be made in $root"
fi
