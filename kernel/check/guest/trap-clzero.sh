# A CPU with CLZERO, which RMPOPT's bytes are then: they are never executed.
. /lib.sh
insmod /rmpopt.ko emulate=trap 2> /dev/null
test_that clzero.refused [ $? = 19 ]
told() { dmesg | grep -q 'emulate=trap needs CPUs with neither RMPOPT nor CLZERO, CPU 0 does not show that'; }
test_that clzero.told told
test_that clzero.nothing-left [ ! -e $E ]
# Nor where only their exception is to be shown.
shown() {
    load emu_mem=4G || return 1
    if control fixup 2> /dev/null; then return 2; fi
    dmesg | grep -q '"fixup" failed (EOPNOTSUPP)' || return 3
    rmmod rmpopt
}
test_that clzero.fixup shown
