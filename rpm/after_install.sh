# %post. rpm takes no notice of a %post that fails, and removes the old version all the same. So a failure leaves
# `current` where it was and is written down, and the old version's %preun then refuses to be removed.

previous=$(current)
name_installing_action

fail() {
    case $previous in
        "$version") ;;
        '' | install/*) point_current_to "install/$version/unfinished" ;;
        *) [ "$(current)" = "$previous" ] || point_current_to "$previous" ;;
    esac
    write_state failed "$version" "$1"
    say "NOT INSTALLED: $1"
    exit 1
}

if [ -f "$support/link.py" ]; then
    if ! reason=$("$prefix/bin/python" -I -B -S "$support/link.py" link "$support" "$prefix" 2>&1); then
        fail "${reason:-its packages could not be linked}"
    fi
    # Files that rpm did not write have not got the labels that SELinux's policy gives to their paths.
    if command -v selinuxenabled >/dev/null && selinuxenabled; then restorecon -R "$prefix"; fi
fi

# Without this, a power cut could leave a link to files whose content never reached the disk.
sync -f "$root" 2>/dev/null || sync
point_current_to "$version" || fail "$root/current could not be switched"
hook_script || fail "its post-install hook failed"
write_state ok "$version" "" || fail "$state cannot be written"
