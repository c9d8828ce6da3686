# %preun. On an upgrade it runs after the new version's %post.

if [ "$1" -gt 0 ]; then
    read_state
    if [ "$(current)" = "$version" ] && [ "$status" != ok ] && [ "$state_version" != "$version" ]; then
        say "stays in use, because $name $state_version did not finish its installation"
        exit 1
    fi
    exit 0
fi

hook_script
