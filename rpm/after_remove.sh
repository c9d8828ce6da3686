# %postun. On an upgrade it runs last of all, with the new version in use; on a reinstallation that is this very one.

in_use=$(current)
if stays "$1" && [ "$in_use" = "$version" ] && [ -x "$prefix/bin/python" ] && is_installed "$version"; then exit 0; fi

rm -f "$support/unpacked"
tidy_version
bring_back "$version"

# The version that takes the place of one that is gone: the one used last, else any.
successor() {
    for folder in $(listed) "$root"/[0-9]*; do
        folder=${folder##*/}
        if [ "$folder" != "$version" ] && [ -x "$root/$folder/bin/python" ]; then
            printf '%s' "$folder"
            return
        fi
    done
}

if stays "$1"; then
    read_state
    # Another version is installed too. If this one was in use, that one takes its place; if this one had failed, what
    # is in use is no longer in doubt.
    if [ "$in_use" = "$version" ] || [ ! -x "$root/$in_use/bin/python" ]; then
        other=$(successor)
        if [ -n "$other" ]; then point_current_to "$other" && switch_units "" "$other" && state_version=$version; fi
    fi
    if [ "$state_version" = "$version" ]; then write_state ok "$(current)" ""; fi
    case $(current) in
        [0-9]*) [ -e "$root/install/ctl" ] || point_ctl_to "$(current)" ;;
    esac
    drop_unlisted
    exit 0
fi

forget_versions
rmdir "$root/install/labels" "$root/install" "$root/bin" "$root" 2>/dev/null

drop_run_folders
hook_script
