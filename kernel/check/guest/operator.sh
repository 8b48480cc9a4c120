# What the operator can do, by configfs.
. /lib.sh
refuses() { # FILE VALUE...
    file=$1
    shift
    for bad in "$@"; do
        if set_ $file "$bad" 2> /dev/null; then return 1; fi
    done
}

load emu_mem=16G
description() { [ "$(cat $C/description)" = "[RMPOPT]

echo 1 > action to perform RMP optimization." ]; }
test_that config.description description
action() {
    [ "$(cat $C/action)" = "RMP optimization in progress: No" ] || return 1
    control snp-init && within has $E/emu/table 16 'CPU(s): 0-3' || return 2
    control assign 0 1 5 || return 3
    control share 0 1 || return 4
    before=$(value rmpopt.verify)
    # Long before its delay would be over.
    set_ action 1 || return 5
    within above rmpopt.verify $before || return 6
    control snp-down
}
set_ delay_ms 60000
test_that config.action action
numbers() {
    for file in delay_ms bound_ms merge_ms follow_ms tick_ms hold_us slow_us followers audit_ms cap_ms sweep; do
        set_ $file 1234 || return 1
        [ "$(cat $C/$file)" = 1234 ] || return 2
    done
}
test_that config.numbers numbers
wrong() {
    refuses action 0 2 x "" -1 4294967297 || return 1
    refuses pause 2 yes "" || return 2
    refuses kill 2 off || return 3
    refuses tick_ms 0 -1 1.5 4294967296 99999999999999999999999999 || return 4
    refuses followers 0 65536 || return 5
    refuses hold_us 0 || return 6
    refuses cpus 4-5 x 1,0 0- none 0,,1 || return 8
    refuses leaders 99 -1 || return 9
    refuses description x || return 10
    [ "$(cat $C/cpus)" = 0-3 ] && [ "$(cat $C/tick_ms)" = 1234 ]
}
test_that config.refuses wrong
rmmod rmpopt
parameters() {
    load emu_mem=4G cap_ms=7 cpus=1,3 leaders=3 || return 1
    [ "$(cat $C/delay_ms) $(cat $C/cap_ms) $(cat $C/cpus) $(cat $C/leaders)" = "100 7 1,3 3" ] || return 2
    rmmod rmpopt || return 3
    for bad in cpus=9 cpus=x leaders=4,; do
        if insmod /rmpopt.ko emulate=model $bad 2> /dev/null; then return 4; fi
    done
}
test_that config.parameters parameters
load emu_mem=16G
made() { if mkdir $C/new 2> /dev/null; then return 1; fi; }
test_that config.mkdir made

paused() {
    control snp-init && within has $E/emu/table 16 'CPU(s): 0-3' || return 6
    control assign 0 4 5 || return 1
    set_ pause 1 && control share 0 4 && set_ action 1
    usleep 500000
    before=$(value rmpopt.executed)
    usleep 1000000
    [ "$(value rmpopt.executed)" = $before ] || return 2
    [ "$(grep -c 'CPU(s): 0-3' $E/emu/table)" = 15 ] || return 3
    [ "$(cat $C/pause)" = 1 ] || return 4
    set_ pause 0 && within has $E/emu/table 16 'CPU(s): 0-3' || return 5
    control snp-down
}
test_that pause paused
over_init() {
    set_ pause 1 && control snp-init && usleep 300000
    [ "$(grep -c 'CPU(s): none' $E/emu/table)" = 16 ] || return 1
    set_ pause 0 && within has $E/emu/table 16 'CPU(s): 0-3'
}
test_that pause.over-init over_init
rmmod rmpopt

played kill kill 16 ""
# Whatever silicon does on writes of the base: it is not written a second time.
played kill-gp,keeps kill 16 "" emu_choices=gp,keeps
played kill-keeps,misses kill 16 "" emu_choices=keeps,misses
# In the middle of a first pass: from the write's end on nothing runs, and nothing begins.
killed() {
    load emu_mem=2T "$@" || return 1
    control snp-init || return 2
    set_ kill 1 || return 3
    before=$(value rmpopt.executed)
    usleep 500000
    [ "$(value rmpopt.executed)" = $before ] || return 4
    grep -q '^# .*, killed' $E/regions || return 5
    grep -q '^unclean 0' $E/stats || return 6
    laws_hold || return 7
    set_ kill 0 || return 8
    within above rmpopt.executed $before || return 9
    rmmod rmpopt || return 10
}
test_that kill.busy killed
test_that kill.v10 killed policy=v10

masked() {
    load emu_mem=16G cpus=2-3 || return 1
    control snp-init && within has $E/emu/table 16 'CPU(s): 2-3' || return 2
    [ "$(grep -c 'base 0x0$' $E/emu/cores)" = 2 ] || return 3
    control snp-down && laws_hold || return 4
    rmmod rmpopt
}
test_that cpus.parameter masked
played cpus cpus 16 ""
leads() {
    load emu_mem=16G leaders=2 || return 1
    control snp-init && within has $E/emu/table 16 'CPU(s): 0-3' && is rmpopt.leader 16 || return 2
    # The only one that may lead is taken away: nothing is verified.
    set_ cpus 0-1,3 && control assign 0 1 5 && control share 0 1 && usleep 500000
    [ "$(value rmpopt.leader)" = 16 ] || return 3
    set_ leaders 0-1 && within is rmpopt.leader 17 || return 4
    control snp-down && laws_hold || return 5
    rmmod rmpopt
}
test_that leaders leads

# CPU time per minute: once the allowance is used up nothing more is begun, though most is still to be
# done, until the operator lifts the cap. What was under way, one batch, is finished.
capped() {
    load emu_mem=2T cap_ms=1 followers=1 && set_ audit_ms 0 || return 1
    control snp-init && usleep 3000000
    taken=$(value cpu.taken_ns) executed=$(value rmpopt.executed)
    echo "cap of 1 ms: $taken ns taken by $executed of 8192 RMPOPTs"
    [ $taken -ge 1000000 ] || return 2
    # At most the leader's and two cores' batches: the second is not begun unless there is time left.
    [ $executed -le 6144 ] || return 3
    [ "$(grep -c 'CPU(s): 0-3' $E/emu/table)" = 0 ] || return 4
    usleep 2000000
    [ "$(value rmpopt.executed) $(value cpu.taken_ns)" = "$executed $taken" ] || return 5
}
test_that cap capped
lifted() {
    set_ cap_ms 0 && within has $E/emu/table 2048 'CPU(s): 0-3' || return 1
    rmmod rmpopt
}
test_that cap.lifted lifted

# Eight write to the action and the tunables while guests live and die.
write() {
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        set_ $1 $2 2> /dev/null
        usleep 20000
        set_ $1 $3 2> /dev/null
        cat $C/$1 > /dev/null
    done
}
load emu_mem=16G
writers=
writes() {
    write "$@" &
    writers="$writers $!"
}
writes action 1 1
writes delay_ms 0 100
writes cap_ms 1 0
writes audit_ms 10 0
writes pause 1 0
writes kill 1 0
writes cpus 1-2 0-3
writes leaders 3 0-3
/check 16 /config.txt &
checker=$!
wait $writers
: > /written
wait $checker
test_that config.crowd [ $? = 0 ]
rmmod rmpopt

# A file that is open when the module goes is of no more use, and does no harm.
held() {
    for file in action description pause kill cpus leaders delay_ms cap_ms; do
        load emu_mem=4G || return 1
        control snp-init || return 2
        exec 3< $C/$file
        rmmod rmpopt || return 3
        if cat <&3 2> /dev/null; then return 4; fi
        exec 3<&-
    done
}
test_that config.held-open held
