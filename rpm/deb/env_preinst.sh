# preinst of an environment that is a package of its own.

case $1 in
    install | upgrade) ;;
    *) exit 0 ;;
esac
