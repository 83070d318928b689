#!/bin/bash
# Runs first on a machine of Jitney's: finds or fetches the agent and the guest, and hands the machine over to the guest.
# Whatever goes wrong, the machine goes off: nothing but this one job is to be done here.
set -u

metadata() {
  curl --silent --fail --max-time 10 --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

off() {
  echo "jitney: $1"
  # What was said is to reach the serial port first.
  sync
  poweroff || halt || shutdown -h now
  exit 1
}

state=${STATE_DIRECTORY:-/var/lib/jitney}
bin=$state/bin
mkdir -p "$bin" || off "cannot make $bin"
export PATH="$bin:${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"

# The operator's own startup script comes before everything else.
if metadata jitney-setup-script >"$state/setup-script" 2>/dev/null; then
  chmod 700 "$state/setup-script"
  "$state/setup-script" || off "the setup script failed with $?"
fi

# Fetches $1 to $2, trying again for as long as the network may need to come up.
fetch() {
  for _ in 1 2 3 4 5 6; do
    curl --silent --show-error --fail --location --max-time 120 --output "$2" "$1" && return 0
    sleep 5
  done
  return 1
}

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) off "no agent is made for $(uname -m)" ;;
esac

if ! command -v jitney-guest >/dev/null; then
  address=$(metadata jitney-address) || off "there is no jitney-guest on this image, and nobody to fetch it from"
  fetch "$address/program?arch=$arch" "$bin/jitney-guest" || off "the guest cannot be fetched from $address"
  chmod 755 "$bin/jitney-guest"
fi

if ! command -v buildkite-agent >/dev/null; then
  url=$(metadata jitney-agent-url) ||
    url=https://github.com/buildkite/agent/releases/download/v3.137.0/buildkite-agent-linux-$arch-3.137.0.tar.gz
  fetch "$url" "$state/agent.tar.gz" || off "the agent cannot be fetched from $url"
  tar --extract --gzip --file "$state/agent.tar.gz" --directory "$bin" || off "$url is no archive"
  command -v buildkite-agent >/dev/null || off "$url holds no buildkite-agent"
fi

if ! command -v git >/dev/null && command -v apt-get >/dev/null; then
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install git; } >/dev/null ||
    echo "jitney: git cannot be installed; jobs that check something out will fail"
fi

# A unit of its own is stopped, and waited for, before the network goes when the machine is preempted.
if [ -d /run/systemd/system ] && [ -z "${GCE_METADATA_ROOT:-}" ]; then
  systemd-run --unit=jitney-guest --collect --property=After=network-online.target \
    --property=KillMode=mixed --property=StandardOutput=journal+console --property=StandardError=journal+console \
    --setenv=PATH="$PATH" "$(command -v jitney-guest)" vm || off "the guest cannot be started"
  exit 0
fi
jitney-guest vm
off "the guest is gone"
