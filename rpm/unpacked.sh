# rpm unpacks a file beside its place, as <name>;<eight digits>.
remove_unpacked() {
    for entry in "$1"/* "$1"/.[!.]*; do
        case $entry in
            *\;[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]) rm -f "$entry" ;;
            *) if [ -d "$entry" ] && [ ! -L "$entry" ]; then remove_unpacked "$entry"; fi ;;
        esac
    done
}
