# %preun. On an upgrade it runs after the new version's %post.

if stays "$1"; then
    read_state
    if [ "$(current)" = "$version" ] && [ "$status" != ok ] && [ "$state_version" != "$version" ]; then
        say "stays in use, because $name $state_version did not finish its installation"
        exit 1
    fi
    if [ "$owns_tree" = yes ] && [ "$(current)" != "$version" ] && is_listed "$version"; then
        copy_aside "$version" || say "is not kept, because no copy of it could be made in $root"
    fi
    exit 0
fi

hook_script || exit
stop_units
