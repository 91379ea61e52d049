#!/bin/sh
# Makes FOLDER/root.ext4, a small Debian that boots in qemu, and FOLDER/vmlinuz and FOLDER/initrd, once: an
# image is made anew when this script has changed. What boots runs /mnt/start of its second disk, and ends.
# usage, as root: tests/systemd/root.sh FOLDER
set -eu
folder=$1 stamp=$1/made-by

# systemd as the service manager, what kvquantd links, and what the tests in it call.
packages=systemd-sysv,udev,dbus,dbus-user-session,libpam-systemd,systemd-coredump,procps,curl,openssl
packages=$packages,linux-image-cloud-amd64,initramfs-tools,python3,python3-pytest
packages=$packages,libuv1,libprotobuf-c1,libinih1,libxxhash0,libmicrohttpd12,libjansson4,libzstd1,libssl3

! cmp -s "$0" "$stamp" || exit 0
[ "$(id -u)" = 0 ] || { echo "$0: a root for the guest is made by root alone" >&2; exit 1; }
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' |
    awk -v wanted="$release" '$2 == wanted { print $1; exit }')
mkdir -p "$folder"
root=$folder/root
rm -rf --one-file-system "$root" "$stamp"
trap 'rm -rf --one-file-system "$root"' EXIT

echo "making a Debian for the guest"
if ! debootstrap --variant=minbase --include="$packages" "$release" "$root" "$mirror" >"$folder/debootstrap.log" 2>&1
then
    tail -n 20 "$folder/debootstrap.log" >&2
    exit 1
fi
rm -f "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd"

# An emulated machine that shares its processors is slow: nothing there may end by a limit of time.
patient=x-systemd.device-timeout=1h
printf '%s\n' "/dev/vda / ext4 $patient 0 0" "/dev/vdb /mnt ext4 $patient 0 0" >"$root/etc/fstab"
mkdir -p "$root/etc/systemd/system.conf.d"
printf '%s\n' '[Manager]' 'DefaultTimeoutStartSec=1h' >"$root/etc/systemd/system.conf.d/patient.conf"
echo guest >"$root/etc/hostname"
echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
cat >"$root/etc/systemd/system/start.service" <<'UNIT'
[Unit]
RequiresMountsFor=/mnt
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh /mnt/start
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
UNIT
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -s ../start.service "$root/etc/systemd/system/graphical.target.wants/"
# What would only take time.
for unit in emergency.service getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service apt-daily.timer \
    apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    systemd-networkd.service systemd-resolved.service systemd-update-utmp-runlevel.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$folder/root.ext4"
mke2fs -q -t ext4 -d "$root" -L root "$folder/root.ext4" 3G
cp "$0" "$stamp"
