# Becomes the main process of a container. Runs as process 1 of new namespaces, with one line
# on file descriptor 0 for whoever started it: its process id, or why it is none.
#   SCRATCH LOWER GROUP DIRECTORY HOSTNAME PATH USER READONLY [MODE FROM TO]... -- COMMAND...
fail() {
    echo "$*" >&0
    exit 128
}
scratch=$1 lower=$2 group=$3 directory=$4 hostname=$5 path=$6 user=$7 readonly=$8
shift 8
# Read from the old /proc, which tells the number that the others see.
read -r pid rest </proc/self/stat
[ -z "$group" ] || echo 0 >"$group/cgroup.procs" || fail "cannot join $group"
echo "$hostname" >/proc/sys/kernel/hostname

mount -t tmpfs -o mode=755 tmpfs "$scratch" || fail "cannot mount a tmpfs"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
root=$scratch/root
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root" ||
    fail "cannot mount an overlay over $lower"
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/tmp"
mount -t proc proc "$root/proc" || fail "cannot mount proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev" || fail "cannot mount a tmpfs"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind /sys "$root/sys" && mount -o remount,bind,ro "$root/sys"
if [ -n "$group" ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup" && mkdir "$root/sys/fs/cgroup/memory" &&
        mount --bind "$group" "$root/sys/fs/cgroup/memory" &&
        mount -o remount,bind,ro "$root/sys/fs/cgroup/memory"
fi

while [ "$1" != -- ]; do
    mode=$1 from=$2 to=$root$3
    shift 3
    if [ -d "$from" ]; then
        mkdir -p "$to" || fail "cannot make $to"
    else
        { mkdir -p "$(dirname "$to")" && : >>"$to"; } || fail "cannot make $to"
    fi
    mount --bind "$from" "$to" || fail "cannot mount $from"
    [ "$mode" = rw ] || mount -o "remount,bind,$mode" "$to" || fail "cannot mount $from read-only"
done
shift
mkdir -p "$root$directory" # as a runtime does with a working directory that the image lacks
[ -z "$readonly" ] || mount -o remount,ro "$root" || fail "cannot make the root read-only"

unshare=$(command -v unshare)
echo "$pid" >&0
PATH=$path
# shellcheck disable=SC2086 # the user's options are several words, or none
exec "$unshare" --cgroup --root="$root" --wd="$directory" $user -- "$@" </dev/null
