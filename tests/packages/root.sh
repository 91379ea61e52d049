#!/bin/sh
# Makes FOLDER, a Debian of this machine's release with nothing in it but what is essential, and apt, with
# this machine's mirror and proxy, once: it is made anew when this script has changed.
# usage, as root: tests/packages/root.sh FOLDER
set -eu
folder=$1 stamp=$1.made-by

! cmp -s "$0" "$stamp" || exit 0
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' |
    awk -v wanted="$release" '$2 == wanted { print $1; exit }')
rm -rf --one-file-system "$folder" "$stamp"
mkdir -p "$folder"

echo "making a Debian in $folder"
if ! debootstrap --variant=minbase "$release" "$folder" "$mirror" >"$stamp.log" 2>&1; then
    tail -n 20 "$stamp.log" >&2
    exit 1
fi
rm -f "$folder"/var/cache/apt/archives/*.deb
# What lets apt through to the mirror from here; certificates for one that is spoken to by https.
apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$folder/etc/apt/apt.conf.d/99host" || :
cp -R /etc/ssl/certs "$folder/etc/ssl/" 2>/dev/null || :
cp /etc/hosts "$folder/etc/hosts"
chroot "$folder" apt-get -q update >>"$stamp.log" 2>&1
cp "$0" "$stamp"
