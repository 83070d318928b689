#!/bin/bash
# Runs first on a machine of Jitney's: finds or fetches the agent and the guest, and hands the machine over to the guest.
# Whatever goes wrong, the machine goes off: nothing but this one job is to be done here.
set -u

# One of the machine's own facts: $1 is its path.
fact() {
  curl --silent --fail --max-time 10 --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/$1"
}

metadata() {
  fact "attributes/$1"
}

# One that is only switched off has no deadline of Google's any more, and its disk costs money.
delete_itself() {
  local at token
  at=$(metadata jitney-delete-at) || return 0
  # Somebody wants to look at it.
  metadata jitney-keep-failed >/dev/null && return 0
  token=$(fact service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
  printf 'Authorization: Bearer %s\n' "$token" |
    curl --silent --show-error --fail --max-time 10 --request DELETE --header @- "$at" >/dev/null ||
    echo "jitney: the machine does not get itself deleted"
}

switch_off() {
  # What was said is to reach the serial port first.
  sync
  poweroff || halt || shutdown -h now
  exit 1
}

off() {
  echo "jitney: $1"
  delete_itself
  switch_off
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

there() {
  command -v "$1" >/dev/null
}

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) off "no agent is made for $(uname -m)" ;;
esac

# Nothing that is put on it later can be run, and it has no git.
if ! { there jitney-guest && there buildkite-agent && there git; } &&
  grep --quiet --line-regexp 'ID=cos' "${OS_RELEASE:-/etc/os-release}" 2>/dev/null; then
  off "Container-Optimized OS has no git and runs nothing that was not in its image: jobs need another image, such as Debian's"
fi

if ! there jitney-guest; then
  address=$(metadata jitney-address) || off "there is no jitney-guest on this image, and nobody to fetch it from"
  fetch "$address/program?arch=$arch" "$bin/jitney-guest" || off "the guest cannot be fetched from $address"
  chmod 755 "$bin/jitney-guest"
fi

# The sum of $1 in the list $2, whose lines are a sum and a name.
sum_in() {
  local sum name
  while read -r sum name; do
    name=${name#\*}
    [ "${name##*/}" = "$1" ] && echo "$sum" && return 0
  done <"$2"
  return 1
}

if ! there buildkite-agent; then
  wanted=$(metadata jitney-agent-sha256) || wanted=
  if ! url=$(metadata jitney-agent-url); then
    version=$(metadata jitney-agent-version) || version=3.137.0
    release=$(metadata jitney-agent-release) || release=https://github.com/buildkite/agent/releases/download/v$version
    file=buildkite-agent-linux-$arch-$version.tar.gz
    url=$release/$file
    if [ -z "$wanted" ]; then
      sums=buildkite-agent-$version.SHA256SUMS
      fetch "$release/$sums" "$state/$sums" || off "the agent's sums cannot be fetched from $release/$sums"
      wanted=$(sum_in "$file" "$state/$sums") || off "$release/$sums has no sum for $file"
    fi
  fi
  fetch "$url" "$state/agent.tar.gz" || off "the agent cannot be fetched from $url"
  if [ -n "$wanted" ]; then
    found=$(sha256sum "$state/agent.tar.gz") || off "nothing here makes SHA-256 sums"
    found=${found%% *}
    [ "$found" = "$wanted" ] || off "$url is not the agent that it should be: its SHA-256 is $found and not $wanted"
  else
    echo "jitney: $url is taken unchecked: no jitney-agent-sha256 says what it should be"
  fi
  tar --extract --gzip --file "$state/agent.tar.gz" --directory "$bin" || off "$url is no archive"
  there buildkite-agent || off "$url holds no buildkite-agent"
fi

if ! there git && there apt-get; then
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install git; } >/dev/null ||
    echo "jitney: git cannot be installed; jobs that check something out will fail"
fi

# A unit of its own is stopped, and waited for, before the network goes when the machine is preempted.
if [ -d "${SYSTEMD_BOOTED:-/run/systemd/system}" ] && [ -z "${GCE_METADATA_ROOT:-}" ]; then
  systemd-run --unit=jitney-guest --collect --property=After=network-online.target \
    --property=KillMode=mixed --property=StandardOutput=journal+console --property=StandardError=journal+console \
    --setenv=PATH="$PATH" "$(command -v jitney-guest)" vm || off "the guest cannot be started"
  exit 0
fi
jitney-guest vm
# One that was killed has not seen to the machine's end.
[ $? -lt 128 ] || off "the guest was killed"
echo "jitney: the guest is gone"
switch_off
