# %post. rpm takes no notice of a %post that fails, and removes the old version all the same. So a failure leaves
# `current` where it was and is written down, and the old version's %preun then refuses to be removed.

name_installing_action
[ -e "$root/install/ctl" ] || point_ctl_to "$version"
write_state installing "$version" "Its files were unpacked; the installation has not ended."

fail() {
    case $previous in
        "$version") ;;
        '') point_current_to "install/$version/unfinished" ;;
        *) [ "$(current)" = "$previous" ] || point_current_to "$previous" ;;
    esac
    if [ "$previous" != "$version" ]; then
        switch_units "$version" "$previous"
        if [ -n "$previous" ]; then switch_commands "$version" "$previous"; else switch_commands "" "$version"; fi
    fi
    write_state failed "$version" "$1"
    say "NOT INSTALLED: $1"
    exit 1
}

reason=$(link_version "$version") || fail "${reason:-its files could not be put into place}"
reason=$(check_version "$version" quick) || fail "it is not whole, or does not work: $reason"

# Without this, a power cut could leave a link to files whose content never reached the disk.
sync -f "$root" 2>/dev/null || sync
point_current_to "$version" || fail "$root/current could not be switched"
make_run_folders || fail "its folders in /run could not be made"
switch_commands "$previous" "$version" || fail "its commands could not be put into $commands"
switch_units "$previous" "$version" || fail "its units could not be put into $units_folder"
hook_script || fail "$hook_fault"
write_kept || fail "$kept cannot be written"
write_state ok "$version" "" || fail "$state cannot be written"
rm -f "$support/kept-copy"
point_ctl_to "$version"
drop_unlisted
restart_units "$previous" "$version"
