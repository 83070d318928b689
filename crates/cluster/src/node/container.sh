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
root=$scratch/root
mkdir "$scratch/upper" "$scratch/work" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root" ||
    fail "cannot mount an overlay over $lower"
# The working directory, too, as a runtime does where the image lacks it.
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/tmp" "$root$directory"
mount -t proc proc "$root/proc" || fail "cannot mount proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev" || fail "cannot mount a tmpfs"
cd /dev && cp -a null zero full random urandom tty fd stdin stdout stderr "$root/dev" || fail "cannot copy devices"
mkdir -m 1777 "$root/dev/shm"
mkdir "$root/dev/pts" && mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts" &&
    ln -s pts/ptmx "$root/dev/ptmx" || fail "cannot mount terminals"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -o bind,ro /sys "$root/sys"
if [ -n "$group" ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup" && mkdir "$root/sys/fs/cgroup/memory" &&
        mount -o bind,ro "$group" "$root/sys/fs/cgroup/memory" || fail "cannot mount $group"
fi

while [ "$1" != -- ]; do
    mode=$1 from=$2 to=$root$3
    shift 3
    if [ -d "$from" ]; then
        [ -d "$to" ] || mkdir -p "$to" || fail "cannot make $to"
    elif [ ! -e "$to" ]; then
        { [ -d "${to%/*}" ] || mkdir -p "${to%/*}"; } && : >"$to" || fail "cannot make $to"
    fi
    mount -o "bind,$mode" "$from" "$to" || fail "cannot mount $from"
done
shift
[ -z "$readonly" ] || mount -o remount,ro "$root" || fail "cannot make the root read-only"

unshare=$(command -v unshare)
echo "$pid" >&0
PATH=$path
# shellcheck disable=SC2086 # the user's options are several words, or none
exec "$unshare" --cgroup --root="$root" --wd="$directory" $user -- "$@" </dev/null
