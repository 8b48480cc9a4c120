# The module with emulated hardware.
. /lib.sh

played life life 16 ""
played lives lives 16 ""
played ud ud 16 ""
played v10 v10 16 --hardware policy=v10
# An exception on a core that is interrupted: the driver stops in the middle of the pass, and knows it.
reads() { grep -q "$1" $E/regions; }
stops_in_broadcast() {
    load emu_mem=2T policy=v10 || return 1
    control snp-init || return 2
    until above ipis 0; do :; done
    control fault ud 1 || return 3
    within is faults 1 || return 4
    within reads '^# policy v10, stopped, first pass under way' || return 5
    control snp-down && control snp-init || return 6
    within reads '^# policy v10, runs, first pass over' || return 7
    is faults 1 && laws_hold && rmmod rmpopt
}
test_that ud.v10 stops_in_broadcast
# Every follower's RMPOPT is a slow one: it gives its CPU back after each.
SLOW_US=0
played yields lives 16 ""
SLOW_US=5000
for choices in keeps,clears keeps,keeps keeps,misses gp,keeps; do
    played life-$choices life 16 "" emu_choices=$choices
done

played sweep sweep 16 "" emu_marks=0
played memory memory 16 ""
test_that memory.told [ "$(dmesg | grep -c 'no memory for an offer')" = 1 ]

red red-drop-clear "region 0 holds assigned pages and is optimised on CPUs"
red red-stale-cache "region 0 holds assigned pages and is optimised on CPUs"
red red-skip-follower "not settled"

# Parameters are refused with the reason.
insmod /rmpopt.ko emulate=model policy=none 2> /dev/null
test_that param.policy [ $? = 22 ]
insmod /rmpopt.ko emulate=model emu_mem=3T 2> /dev/null
test_that param.emu_mem [ $? = 22 ]

# Loaded when SNP is up: with bases of nobody's, of an earlier load's, and of another's.
found() { # MODULE_OPTIONS... EXPECTED_ROWS
    expected=$1
    shift
    load emu_mem=16G "$@" || return 1
    # Nothing is to come of it, or all.
    [ $expected = 16 ] || usleep 500000
    within has $E/rmpopt-table $expected 0-3 || return 2
    laws_hold || return 3
    rmmod rmpopt || return 4
}
test_that found.fresh found 16 emu_up=fresh
test_that found.left found 0 emu_up=left
test_that found.adopted found 16 emu_up=left adopt=1
test_that found.other found 0 emu_up=left:3 adopt=1
# Taken over also where the operator lets nothing run, for the time being or to the end.
masked() { # EXPECTED_ROWS COMMAND...
    expected=$1
    shift
    load emu_mem=16G emu_up=left adopt=1 cpus=1-2 || return 1
    within has $E/rmpopt-table 16 '1-2$' && "$@" || return 2
    [ $expected = 16 ] || usleep 500000
    within has $E/rmpopt-table $expected '0-3$' || return 3
    control snp-down && laws_hold || return 4
    [ "$(grep -c 'base 0x0$' $E/emu/cores)" = 4 ] || return 5
    rmmod rmpopt || return 6
}
test_that found.masked masked 0 true
test_that found.unmasked masked 16 set_ cpus all
test_that found.killed masked 0 set_ kill 1
test_that found.told [ "$(dmesg | grep -c 'Waits for the next SNP_INIT')" = 2 ]

test_that reload reloaded 20 64

# Unloaded in the middle of the first pass.
busy() {
    load emu_mem=2T || return 1
    control snp-init || return 2
    grep -q "first pass under way" $E/regions || return 3
    rmmod rmpopt || return 4
}
test_that unload-busy busy

# While a file is open the module stays.
held() {
    for file in rmpopt-table audit probes stats regions emu/table emu/laws; do
        load emu_mem=4G || return 1
        control snp-init || return 2
        exec 3< $E/$file
        if rmmod rmpopt 2> /dev/null; then return 3; fi
        exec 3<&-
        rmmod rmpopt || return 4
    done
}
test_that held-open held

# While SNP is up CPUs stay and the machine does not sleep.
offline() { echo 0 > /sys/devices/system/cpu/cpu3/online; }
online() { echo 1 > /sys/devices/system/cpu/cpu3/online; }
stays() {
    load emu_mem=16G || return 1
    offline && online || return 2
    control snp-init || return 3
    if offline 2> /dev/null; then return 4; fi
    if echo freeze > /sys/power/state 2> /dev/null; then return 5; fi
    control snp-down || return 6
    offline && online || return 7
    control snp-init || return 8
    rmmod rmpopt || return 9
    offline && online || return 10
}
test_that cpus-and-machine-stay stays
# Also while the driver has no part in it: it waits for the next SNP_INIT.
waits() {
    load emu_mem=16G emu_up=left || return 1
    if offline 2> /dev/null; then return 2; fi
    if echo freeze > /sys/power/state 2> /dev/null; then return 3; fi
    control snp-down || return 4
    offline && online || return 5
    rmmod rmpopt
}
test_that cpus-stay-while-it-waits waits
test_that sleep-refused [ "$(dmesg | grep -c 'cannot sleep while SNP is up')" = 2 ]

under_hotplug hotplug 200

# A CPU that comes back without SNP_EN, as after a reset, does no RMP checks: nothing is run there and
# nothing believed, until the next SNP_INIT.
without_snp_en() {
    load emu_mem=16G emu_hotplug=1 || return 1
    control snp-init && within has $E/rmpopt-table 16 '0-3$' || return 1
    offline && control reset 3 && online || return 2
    grep -q '^core 3 snp_en 0 base 0x0$' $E/emu/cores || return 3
    control assign 0 1 5 && control share 0 1 && set_ action 1 && usleep 500000
    within has $E/emu/table 16 'CPU(s): 0-2$' || return 4
    within has $E/rmpopt-table 16 '0-2$' || return 5
    laws_hold && grep -q '^faults 0$' $E/stats || return 6
    # Nor is its base written a second time when all is stopped and goes on.
    set_ kill 1 && set_ kill 0 && within has $E/rmpopt-table 16 '0-2$' || return 7
    grep -q '^core 3 snp_en 0 base 0x0$' $E/emu/cores || return 8
    control snp-down && control snp-init && within has $E/rmpopt-table 16 '0-3$' || return 9
    has $E/emu/table 16 'CPU(s): 0-3$' || return 10
    control snp-down && laws_hold || return 11
    rmmod rmpopt
}
test_that hotplug.without-snp-en without_snp_en

# Others write meanwhile.
load emu_mem=16G
for writer in 1 2 3 4 5 6 7; do by_turns 20 "control optimise" "control optimise" & done
by_turns 20 "set_ pause 1" "set_ pause 0" &
/check 16 /crowd.txt
test_that crowd [ $? = 0 ]
wait
rmmod rmpopt

# Every CPU is busy: with ordinary tasks, then with real-time ones.
for cpu in 0 1 2 3; do taskset $((1 << cpu)) sh -c 'while :; do :; done' & done
FOLLOW_MS=5000
played busy busy 16 ""
FOLLOW_MS=50
kill $(jobs -p)
wait 2> /dev/null
for cpu in 0 1 2 3; do /check --hog $cpu 6 || failed "hog FAILED: no real-time task" & done
played hog hog 16 ""
wait 2> /dev/null

# The machine goes down while the first pass is under way: see the console's last lines.
dmesg -n 8
load emu_mem=2T
control snp-init
