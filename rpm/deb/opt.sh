# dpkg takes this folder along if it is empty; but every host has it.
case $root in
    /opt/*) mkdir -p /opt ;;
esac
