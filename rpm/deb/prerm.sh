# prerm.

case $1 in
    remove)
        hook_script || exit
        stop_units
        # dpkg leaves a folder in which it finds what is not its own, and comes back for it only after the postrm.
        forget_versions
        rm -f "$before"
        if [ "$owns_tree" = yes ]; then unlink_version "$version"; fi
        tidy_version
        ;;
    upgrade)
        # What is in use is kept by the new version's preinst.
        if [ "$owns_tree" = yes ] && [ "$(current)" != "$version" ] && is_listed "$version"; then
            copy_aside "$version" || say "is not kept, because no copy of it could be made in $root"
        fi
        ;;
esac
exit 0
