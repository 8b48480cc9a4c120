# The module in a debug kernel: what may break a rule of locks, contexts, objects or memory.
. /lib.sh
echo clear > /sys/kernel/debug/kmemleak

played debug.life life 16 ""
played debug.trap life 16 "" emulate=trap
played debug.ud ud 16 ""
played debug.v10 v10 16 --hardware policy=v10
# What is lost is found by audits, which wait for ticks.
awake played debug.sweep sweep 16 "" emu_marks=0
played debug.lives lives 16 ""
played debug.events events 64 ""

test_that debug.reload reloaded 6 16
# Unloaded in the middle of the first pass.
busy() {
    load emu_mem=2T || return 1
    control snp-init || return 2
    rmmod rmpopt || return 3
}
test_that debug.unload-busy busy

# Files that are open when the module is to go: it stays, or (configfs) they are of no more use.
held() {
    load emu_mem=4G || return 1
    control snp-init || return 2
    for file in rmpopt-table audit probes stats regions emu/table emu/laws emu/cores; do
        exec 3< $E/$file
        if rmmod rmpopt 2> /dev/null; then return 3; fi
        cat <&3 > /dev/null || return 4
        exec 3<&-
    done
    exec 3< $C/action 4> $C/pause
    rmmod rmpopt || return 5
    if cat <&3 2> /dev/null; then return 6; fi
    if echo 1 >&4 2> /dev/null; then return 7; fi
    exec 3<&- 4>&-
}
test_that debug.held-open held
# Files are opened, read and closed over and over while the module is unloaded.
readers() {
    while [ ! -e /stop ]; do
        for file in $E/rmpopt-table $E/stats $E/regions $E/emu/table $C/cpus $C/action; do
            cat $file > /dev/null 2>&1
        done
    done
}
unloaded() {
    rm -f /stop
    readers & readers & readers &
    for n in 1 2 3 4 5; do
        load emu_mem=4G || return 1
        control snp-init || return 2
        # While a file is open the module stays.
        until rmmod rmpopt 2> /dev/null; do usleep 1000; done
    done
    : > /stop
    wait
}
test_that debug.read-while-unloaded unloaded

# Others write meanwhile.
load emu_mem=16G
writers=
writes() {
    by_turns 10 "$@" &
    writers="$writers $!"
}
writes "control optimise" "control decommission"
writes "set_ pause 1" "set_ pause 0"
writes "set_ kill 1" "set_ kill 0"
writes "set_ cpus 1-2" "set_ cpus 0-3"
writes "set_ leaders 3" "set_ leaders 0-3"
writes "set_ delay_ms 0" "set_ delay_ms 100"
/check 16 /config.txt &
checker=$!
wait $writers
: > /written
wait $checker
test_that debug.crowd [ $? = 0 ]
rmmod rmpopt

under_hotplug debug.hotplug
