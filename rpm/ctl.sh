# <name>-ctl: looks after the versions of one application. Needs a shell and coreutils, no interpreter.

usage() {
    cat <<END
usage: $name-ctl versions
       $name-ctl selfcheck [VERSION]
       $name-ctl rollback [VERSION]

versions   lists the versions that lie here, and says which is in use
selfcheck  tells whether a version, else the one in use, is whole and works
rollback   puts the version that was in use before, or VERSION, into use again
END
    if can_uninstall; then printf 'uninstall  removes all versions; what was not installed with them stays\n'; fi
}

# Only what no package manager has brought does that itself.
can_uninstall() { command -v uninstall >/dev/null; }

refuse() {
    printf '%s: %s\n' "$name-ctl" "$1" >&2
    exit 1
}

in_use=$(current)

# Every version that lies here as a whole.
versions() {
    for folder in "$root"/[0-9]*; do
        folder=${folder##*/}
        if [ -d "$root/$folder" ] && [ -f "$root/install/$folder/version" ]; then printf '%s\n' "$folder"; fi
    done
}

show_versions() {
    read_state
    for one in $(versions); do
        word=installed
        is_installed "$one" || word=kept
        if [ "$one" = "$in_use" ]; then word="$word, in use"; fi
        if [ "$one" = "$state_version" ] && [ "$status" != ok ]; then word="$word, $status"; fi
        read_version "$one"
        printf '%s (%s): %s\n' "$one" "$author_version" "$word"
    done
}

selfcheck() {
    which=${1:-$in_use}
    wrong=0
    read_state
    if [ "$status" != ok ] && [ "$status" != rolled-back ]; then
        printf 'the last installation, of %s, stands as "%s":\n' "$state_version" "$status"
        tail -n +2 "$state"
        wrong=1
    fi
    case $which in
        '' | install/*) refuse "no version is in use" ;;
    esac
    [ -f "$root/install/$which/version" ] || refuse "there is no version $which; see $name-ctl versions"
    check_version "$which" full || wrong=1
    if [ "$which" = "$in_use" ]; then
        fault=$(wrong_commands "$in_use"; wrong_units "$in_use")
        if [ -n "$fault" ]; then printf '%s\n' "$fault" && wrong=1; fi
    fi
    if [ "$wrong" -eq 0 ]; then printf '%s %s is whole and works\n' "$name" "$which"; fi
    exit "$wrong"
}

# The version that was in use before this one.
version_before() {
    for one in $(listed); do
        if [ "$one" != "$in_use" ] && [ -d "$root/$one" ]; then
            printf '%s' "$one"
            return
        fi
    done
}

rollback() {
    [ -w "$root" ] || refuse "$root cannot be written by $(id -un)"
    target=${1:-$(version_before)}
    [ -n "$target" ] || refuse "no earlier version is kept; name one of: $(versions | tr '\n' ' ')"
    [ "$target" != "$in_use" ] || refuse "$target is in use already"
    bring_back "$target" # where an upgrade was killed midway
    [ -f "$root/install/$target/version" ] || refuse "there is no version $target; see $name-ctl versions"
    fault=$(check_version "$target" present) || refuse "$target is not put into use: $fault"
    point_current_to "$target" || refuse "$root/current could not be switched"
    switch_commands "$in_use" "$target" || refuse "$target is in use, but its commands could not be put into $commands"
    switch_units "$in_use" "$target" || refuse "$target is in use, but its units could not be put into $units_folder"
    restart_units "$in_use" "$target"
    if is_installed "$target"; then
        write_state ok "$target" ""
    else
        write_state rolled-back "$target" "It was put into use instead of $in_use."
    fi || refuse "$target is in use, but $state could not be written"
    printf '%s: %s is in use, instead of %s. Restart what is running.\n' "$name" "$target" "${in_use:-none}"
}

case ${1-} in
    versions) show_versions ;;
    selfcheck) selfcheck "${2-}" ;;
    rollback) rollback "${2-}" ;;
    help | --help | -h) usage ;;
    uninstall)
        can_uninstall || refuse "was brought by a package manager, which also removes it"
        uninstall
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
