# The module with emulated hardware.
. /lib.sh

played life life 16 ""
played lives lives 16 ""
played ud ud 16 ""
played v10 v10 16 --hardware policy=v10
for choices in keeps,clears keeps,keeps keeps,misses gp,keeps; do
    played life-$choices life 16 "" emu_choices=$choices
done

red red-drop-clear "region 0 holds assigned pages and is optimised on CPUs"
red red-stale-cache "region 0 holds assigned pages and is optimised on CPUs"
red red-skip-follower "not settled"

# Parameters are refused with the reason.
insmod /rmpopt.ko emulate=model policy=none 2> /dev/null
test_that param.policy [ $? = 22 ]
insmod /rmpopt.ko emulate=model emu_mem=3T 2> /dev/null
test_that param.emu_mem [ $? = 22 ]

# Loaded and unloaded twenty times, every other time with work under way.
reload() {
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        load emu_mem=64G || return 1
        control snp-init || return 2
        if [ $((n % 2)) = 0 ]; then
            control assign 0 64 5 || return 3
            control share 0 64 || return 4
            usleep 150000
        fi
        rmmod rmpopt || return 5
    done
}
test_that reload reload

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
    for file in rmpopt-table stats regions emu/table emu/laws; do
        load emu_mem=4G || return 1
        control snp-init || return 2
        exec 3< $E/$file
        if rmmod rmpopt 2> /dev/null; then return 3; fi
        exec 3<&-
        rmmod rmpopt || return 4
    done
}
test_that held-open held

under_hotplug hotplug

# Others write meanwhile.
write() {
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        control $1 2> /dev/null
        usleep 20000
        control $2 2> /dev/null
    done
}
load emu_mem=16G
for writer in 1 2 3 4 5 6 7; do write optimise optimise & done
write pause resume &
/check 16 /crowd.txt
test_that crowd [ $? = 0 ]
wait
rmmod rmpopt
