#!/bin/sh
# Makes the user of the service. It is started by whoever has looked at the settings.
set -e
[ -z "${DPKG_ROOT:-}" ] || exit 0 # it is installed for another machine
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers patrol.conf
elif ! id patrol >/dev/null 2>&1; then
  useradd --system --home-dir /var/lib/patrol --shell /usr/sbin/nologin patrol
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # After an upgrade the new version takes over.
  systemctl try-restart patrol.service || true
fi
