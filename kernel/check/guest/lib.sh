# What the test machines' scripts share. Each test prints one line, "test: NAME ok" or
# "test: NAME FAILED why", which `cargo xtask kernel-test` reads.

E=/sys/kernel/debug/x86/rmpopt
C=/sys/kernel/config/rmpopt
insmod /configfs.ko && mount -t configfs configfs /sys/kernel/config
# Times short enough for a test; an emulated RMPOPT on an emulated CPU is a slow one.
FAST="delay_ms=100 merge_ms=20 tick_ms=20 hold_us=2000 audit_ms=200"

ok() { echo "test: $1 ok"; }
failed() { echo "test: $*"; }

# test NAME COMMAND...: the command succeeds.
test_that() {
    name=$1
    shift
    if "$@"; then ok $name; else failed "$name FAILED: $* gives $?"; fi
}

# The emulated module with these parameters.
load() { insmod /rmpopt.ko emulate=model $FAST follow_ms=${FOLLOW_MS:-50} slow_us=${SLOW_US:-5000} "$@"; }

# within COMMAND...: it succeeds within 20 s: what must happen may take long on a busy host.
within() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || return 1
        usleep 100000
    done
}
# has FILE COUNT PATTERN: so many of its lines have it.
has() { [ "$(grep -c "$3" $1)" = $2 ]; }
# A value of `stats`.
value() { sed -n "s/^$1 //p" $E/stats; }
# It is more than that, or just that.
above() { [ "$(value $1)" -gt $2 ]; }
is() { [ "$(value $1)" = $2 ]; }

# set FILE VALUE: writes to configfs.
set_() { echo "$2" > $C/$1; }

# A command for the emulated host.
control() { echo "$*" > $E/emu/control; }

# played NAME SCRIPT GIB CHECK_OPTION MODULE_OPTIONS...: the checker plays a script to a fresh module.
played() {
    name=$1 script=$2 gib=$3 option=$4
    shift 4
    load emu_mem=${gib}G "$@" || { failed "$name FAILED: insmod gives $?"; return; }
    /check $gib $option /$script.txt > /told 2>&1
    code=$?
    cat /told
    rmmod rmpopt || { failed "$name FAILED: rmmod gives $?"; return; }
    if [ $code = 0 ]; then ok $name; else failed "$name FAILED: the checker found something"; fi
}

# red SCRIPT: the checker sees the fault that the script seeds.
red() {
    load emu_mem=16G || { failed "$1 FAILED: insmod gives $?"; return; }
    /check 16 /$1.txt > /told 2>&1
    cat /told
    rmmod rmpopt || { failed "$1 FAILED: rmmod gives $?"; return; }
    if grep -q "^check: RED .*$2" /told; then ok $1; else failed "$1 FAILED: not seen"; fi
}

# reloaded TIMES GIB: the module is loaded and unloaded, every other time with work under way.
reloaded() {
    for n in $(seq $1); do
        load emu_mem=${2}G || return 1
        control snp-init || return 2
        if [ $((n % 2)) = 0 ]; then
            control assign 0 64 5 || return 3
            control share 0 64 || return 4
            usleep 150000
        fi
        rmmod rmpopt || return 5
    done
}

# by_turns TIMES COMMAND OTHER: two commands in turn, whether they succeed or not.
by_turns() {
    for n in $(seq $1); do
        $2 2> /dev/null
        usleep 20000
        $3 2> /dev/null
    done
}

# awake COMMAND...: meanwhile no CPU is idle for long, and each has ticks.
awake() {
    for cpu in 0 1 2 3; do taskset $((1 << cpu)) sh -c 'while :; do usleep 5000; done' & done
    "$@"
    kill $(jobs -p)
    wait 2> /dev/null
}

# No law was broken.
laws_hold() { ! grep -q 'breaches [^0]' $E/emu/laws; }

# toggle TIMES: CPUs 1 to 3 go offline and come back, so many times in all; then there is a file /toggled.
toggle() {
    n=0
    while [ $n -lt $1 ]; do
        for cpu in 1 2 3; do
            echo 0 > /sys/devices/system/cpu/cpu$cpu/online || failed "toggle FAILED: offline $cpu"
            usleep 10000
            echo 1 > /sys/devices/system/cpu/cpu$cpu/online || failed "toggle FAILED: online $cpu"
            n=$((n + 1))
        done
    done
    : > /toggled
    echo "CPUs went and came $n times"
}

# under_hotplug NAME [TIMES]: guests live and die while CPUs go and come; then SNP goes down while two are
# away, whose bases are cleared when they are back.
under_hotplug() {
    load emu_mem=16G emu_hotplug=1 || { failed "$1 FAILED: insmod gives $?"; return; }
    rm -f /toggled
    toggle ${2:-60} &
    toggler=$!
    /check 16 /hot.txt
    test_that $1.lives [ $? = 0 ]
    wait $toggler
    for cpu in 2 3; do echo 0 > /sys/devices/system/cpu/cpu$cpu/online; done
    test_that $1.down control snp-down
    test_that $1.left grep -q 'base 0x1' $E/emu/cores
    for cpu in 2 3; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done
    test_that $1.cleared within has $E/emu/cores $(wc -l < $E/emu/cores) 'base 0x0$'
    test_that $1.laws laws_hold
    rmmod rmpopt || failed "$1 FAILED: rmmod gives $?"
}
