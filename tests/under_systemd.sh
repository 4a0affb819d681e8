#!/bin/sh
# A systemd of its own as PID 1, in namespaces of its own, for tests/edge/test_under_systemd.py.
#
#   under_systemd.sh FOLDER
#
# FOLDER holds what /etc/traffic-vision and /run/systemd/system are to hold (etc/, units/), the service's user as for
# systemd-sysusers (sysusers), and the name of its cgroup (cgroup).
# Nothing outside it is changed: mounts are private, and the cgroup is a new one below the present.
# Exits with 77 where the machine does not let it.
set -eu
folder=$1
if [ "${2:-}" != inside ]; then
  mount --make-rprivate / || exit 77
  mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 77
  own=/sys/fs/cgroup/$(cat "$folder/cgroup")
  mkdir "$own" && echo $$ > "$own/cgroup.procs" || exit 77
  exec unshare --cgroup --mount --pid --fork --kill-child --uts --ipc --mount-proc "$0" "$folder" inside
fi
mkdir -p "$folder/root" "$folder/own-etc"
# The user and group of the service, and no other unit, in an /etc of its own.
mount -t tmpfs etc "$folder/own-etc"
cp /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /etc/ld.so.conf "$folder/own-etc/"
cp -r "$folder/etc" "$folder/own-etc/traffic-vision"
mkdir -p "$folder/own-etc/systemd/system"
mount --bind "$folder/own-etc" /etc
mount -t tmpfs state /var/lib
systemd-sysusers "$folder/sysusers"
chgrp -R traffic-vision /etc/traffic-vision
chmod 750 /etc/traffic-vision
# Interpreters in /root, which the service's user could not reach.
if [ -d /root/.pyenv ]; then
  mount --bind /root/.pyenv "$folder/root"
  mount -t tmpfs root /root && chmod 755 /root && mkdir /root/.pyenv
  mount --bind "$folder/root" /root/.pyenv
fi
mount -t tmpfs run /run
mkdir -p /run/systemd && cp -r "$folder/units" /run/systemd/system
umount -R /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
  --unit=here.target --log-target=console --show-status=no
