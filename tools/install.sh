#!/bin/sh
# Installs or removes what a table on stdin names. usage: tools/install.sh install|uninstall <TABLE
#   file MODE SOURCES FOLDER   sources may be a pattern, and need not be there
#   as   MODE SOURCE TARGET    a file under another name
#   text SOURCE TARGET         a file whose paths are made this installation's
#   keep SOURCE TARGET         a file that is not touched where there is one, and never removed
#   link TEXT TARGET           a symbolic link
# From the environment: DESTDIR, before every target; PREFIX, LIBDIR, INCLUDEDIR, SYSCONFDIR, VERSION.
set -eu

put_file() {
    [ -e "$2" ] || return 0
    echo "  INSTALL $3"
    install -D -m "$1" "$2" "$3"
}

put_text() {
    echo "  INSTALL $2"
    mkdir -p "$(dirname "$2")"
    sed "s|@PREFIX@|$PREFIX|; s|@LIBDIR@|$LIBDIR|; s|@INCLUDEDIR@|$INCLUDEDIR|; s|@VERSION@|$VERSION|
        s|/usr/local/bin|$PREFIX/bin|; s|/etc/kvquant|$SYSCONFDIR/kvquant|" "$1" >"$2"
    chmod 644 "$2"
}

put_link() {
    echo "  INSTALL $2"
    mkdir -p "$(dirname "$2")"
    ln -sf "$1" "$2"
}

install_row() {
    case $1 in
    file) for source in $3; do put_file "$2" "$source" "$DESTDIR$4/$(basename "$source")"; done ;;
    as) put_file "$2" "$3" "$DESTDIR$4" ;;
    text) put_text "$2" "$DESTDIR$3" ;;
    keep) [ -e "$DESTDIR$3" ] || put_file 644 "$2" "$DESTDIR$3" ;;
    link) put_link "$2" "$DESTDIR$3" ;;
    *) echo "install.sh: no such kind: $1" >&2; exit 1 ;;
    esac
}

uninstall_row() {
    case $1 in
    file) for source in $3; do rm -f "$DESTDIR$4/$(basename "$source")"; done ;;
    as) rm -f "$DESTDIR$4" ;;
    text | link) rm -f "$DESTDIR$3" ;;
    keep) [ ! -e "$DESTDIR$3" ] || echo "left: $DESTDIR$3" ;;
    *) echo "install.sh: no such kind: $1" >&2; exit 1 ;;
    esac
}

case ${1:-} in
install | uninstall) ;;
*) sed -n 2p "$0" | cut -c3- >&2; exit 2 ;;
esac
command=$1
while read -r row; do
    set -f # a row is split here, and a pattern in it expanded where its files are wanted
    set -- $row
    set +f
    "${command}_row" "$@"
done
# The linker's list of libraries is this machine's, not of a tree that is packed up later.
if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then
    ldconfig
fi
