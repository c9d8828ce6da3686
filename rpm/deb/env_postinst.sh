# postinst of an environment that is a package of its own.

case $1 in
    configure | abort-remove | abort-upgrade) ;;
    *) exit 0 ;;
esac
