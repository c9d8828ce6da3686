# prerm.

case $1 in
    remove)
        hook_script || exit
        stop_units
        ;;
    upgrade)
        # What is in use is kept by the new version's preinst.
        if [ "$(current)" != "$version" ] && is_listed "$version"; then
            copy_aside "$version" || say "is not kept, because no copy of it could be made in $root"
        fi
        ;;
esac
exit 0
