# postinst. On an upgrade `current` leads to this version already, and dpkg has removed the files of the old one. If
# what follows fails, the old version is put into use again, and dpkg calls this package half-configured.

# Whether every file of this version is there.
is_whole() (
    cd "$prefix" && cut -c 67- "$support/sums" | while IFS= read -r path; do [ -e "$path" ] || exit 1; done
)

case $1 in
    configure) ;;
    abort-upgrade)
        # dpkg gave up another version, and has put the files of this one back.
        if is_whole; then rm -rf "$root/.kept-$version"; fi
        if [ "$(current)" = "$version" ]; then
            rm -f "$before"
            write_state ok "$version" ""
        else
            read_state
            if [ "$state_version" != "$version" ]; then write_state failed "$version" "its installation never ended"; fi
        fi
        exit 0
        ;;
    *) exit 0 ;;
esac

rm -rf "$root"/.kept-*.new "$root/.kept-$version"
for copy in "$root"/.kept-*; do
    if [ -d "$copy" ]; then bring_back "${copy#"$root"/.kept-}"; fi
done
# What dpkg left of versions that are neither its own any longer nor kept.
for folder in "$root"/[0-9]*; do
    other=${folder##*/}
    if [ "$owns_tree" = yes ] && [ "$other" != "$version" ] && [ -d "$folder" ] && [ ! -f "$root/install/$other/kept-copy" ]; then
        tidy "$folder"
    fi
done

if [ -f "$before" ]; then in_use_before=$(cat "$before"); fi
trap 'status=$?; if [ "$status" -eq 0 ]; then rm -f "$before"; fi; exit "$status"' EXIT
