# The last part of preinst. dpkg removes the old version's files before it runs the new one's postinst, so what is in
# use now is copied before, and written down: by then `current` has been switched.

if [ "$previous" != "$version" ] || [ ! -f "$before" ]; then
    printf '%s\n' "$previous" >"$before" || refuse "$root cannot be written"
fi
case $previous in
    '' | "$version") ;;
    *)
        [ "$owns_tree" != yes ] || [ -f "$root/install/$previous/kept-copy" ] || copy_aside "$previous" ||
            refuse "no copy of $previous could be made in $root"
        ;;
esac
