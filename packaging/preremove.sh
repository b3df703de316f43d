#!/bin/sh
# Stops the service when the package is removed, and not when it is upgraded.
set -e
[ -z "${DPKG_ROOT:-}" ] || exit 0
case "$1" in
  upgrade | 1) exit 0 ;; # of deb, of rpm
esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now patrol.service || true
fi
