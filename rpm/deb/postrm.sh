# postrm.

case $1 in
    remove) ;;
    # The hook has run, or there is nothing that it could follow.
    purge | abort-install) hook_script() { :; } ;;
    upgrade)
        # The one moment at which both versions lie there as a whole: dpkg has unpacked the new one, which its preinst
        # has named in the state, and has not yet removed this one. If this fails, dpkg puts everything back.
        read_state
        new=$state_version
        if [ "$status" != installing ]; then exit 0; fi
        reason=$(link_version "$new") && reason=$(check_version "$new" quick) || {
            # dpkg does not know what was linked, and takes along the list of it.
            if [ "$new" != "$version" ] && [ "$owns_tree" = yes ]; then unlink_version "$new"; fi
            printf '%s %s: NOT INSTALLED: it is not whole, or does not work: %s\n' "$name" "$new" "$reason" >&2
            exit 1
        }
        sync -f "$root" 2>/dev/null || sync
        point_current_to "$new" || exit
        # What dpkg does not know would stop it from removing the folders: bytecode, and what was linked.
        if [ "$new" != "$version" ] && [ "$owns_tree" = yes ]; then
            unlink_version "$version"
            tidy "$prefix"
        fi
        exit 0
        ;;
    failed-upgrade) exit 1 ;; # the old version's postrm has said why
    abort-upgrade)
        if [ "$(current)" != "$version" ] && [ ! -f "$support/kept-copy" ]; then tidy_version; fi
        exit 0
        ;;
    *) exit 0 ;;
esac

rm -f "$before"
