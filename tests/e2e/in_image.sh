#!/usr/bin/env bash
# in_image.sh ROOT COMMAND...: run a command in an image's files as an engine would: as the image's user, PID 1 of
# its own, everything read-only but /tmp (the host's) and a volume that is empty. A SIGTERM goes to the command.
set -u
root=$1
shift
unshare --mount --pid --fork bash -ec '
  root=$1
  shift
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount --bind /tmp "$root/tmp"
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mount -t tmpfs -o uid=10001,gid=0,mode=2770 tmpfs "$root/var/lib/forwarder"
  mount --bind /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
  mount -o remount,ro,bind "$root"
  cd "$root"
  exec chroot --userspec=10001:0 "$root" env -C /var/lib/forwarder -i PATH=/opt/forwarder/bin:/usr/bin:/bin \
    STATE_DIRECTORY=/var/lib/forwarder AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any "$@"
' engine "$root" "$@" &
engine=$!
trap 'kill -TERM $(pgrep -P "$engine")' TERM INT
wait "$engine"
status=$?
while kill -0 "$engine" 2>/dev/null; do
  wait "$engine"
  status=$?
done
exit "$status"
