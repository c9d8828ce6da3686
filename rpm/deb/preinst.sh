# preinst. What follows checks the host and runs the pre-install hook; if it fails, dpkg goes back to the old version.

case $1 in
    install | upgrade) ;;
    *) exit 0 ;; # abort-upgrade: nothing of this script's needs to be undone
esac
