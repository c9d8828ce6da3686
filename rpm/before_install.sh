# %pre. Whatever can be known beforehand is checked here: only a %pre that fails stops rpm before it changed anything.

refuse() { say "$1"; exit 1; }

# Links that lead elsewhere may be those of the same application in another place, which this one does not take over.
check_commands_are_free() {
    for command in $new_commands; do
        found=$(readlink "$commands/$command") || found=$commands/$command
        if [ "$found" = "$root/current/bin/$command" ] || [ ! -e "$commands/$command" ]; then continue; fi
        case $found in
            */"$name/current/bin/$command")
                refuse "is installed in ${found%/current/bin/*} already: name that place, or remove it there first" ;;
            *) refuse "$commands/$command is there already, and is not of $name" ;;
        esac
    done
}

name_installing_action
fault=$(prefix_fault)
[ -z "$fault" ] || refuse "$fault"
if [ -n "$makes_commands" ]; then check_commands_are_free; fi
remove_unfinished

check_host
if [ "$owns_tree" != yes ] && [ ! -f "$support/version" ]; then
    refuse "its environment is not installed, which is a package of its own"
fi
make_user || refuse "the system's user $system_user could not be made"
hook_script || exit 1
# A copy of this very version, kept from an earlier life, makes way for the package's own files.
if [ "$owns_tree" = yes ] && [ "$previous" != "$version" ]; then
    bring_back "$version"
    if [ -f "$support/kept-copy" ]; then drop "$version"; fi
fi
mark=new
if [ -e "$prefix" ] || [ -e "$support" ]; then mark=; fi
write_state installing "$version $mark" "The installation was begun and has not ended." ||
    refuse "$root cannot be written"
