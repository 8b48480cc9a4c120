# RMPOPT's bytes are executed; the emulated host answers the exception that they raise.
. /lib.sh
played trap.life life 16 "" emulate=trap
played trap.lives lives 16 "" emulate=trap
played trap.v10 v10 16 --hardware policy=v10 emulate=trap

# Nobody answers one of them: the exception table leads back, and the driver stops.
dmesg -c > /dev/null
played trap.ud ud 16 "" emulate=trap
dmesg > /log
test_that trap.ud-told-once [ "$(grep -c 'RMPOPT raised an exception' /log)" = 1 ]

# Each RMPOPT was an exception, and no exception was anything else.
counted() {
    load emu_mem=16G emulate=trap && set_ audit_ms 0 || return 1
    control snp-init || return 2
    for n in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(grep -c 'CPU(s): 0-3' $E/emu/table)" = 16 ] && break
        usleep 500000
    done
    executed=$(sed -n 's/^rmpopt.executed //p' $E/stats)
    [ "$executed" -ge 64 ] || return 3
    [ "$(sed -n 's/^trapped //p' $E/emu/trapped)" = "$executed" ] || return 4
    # One that nobody answers for comes back as an error, too.
    control fixup || return 5
    rmmod rmpopt
}
test_that trap.counted counted
# In the middle of a first pass, with bytes being executed on each CPU.
unloaded() {
    load emu_mem=2T emulate=trap || return 1
    control snp-init || return 2
    rmmod rmpopt
}
test_that trap.unloads unloaded
# Without the notifier the bytes are a fault again, and no model's business.
load emu_mem=4G
test_that trap.gone control fixup
rmmod rmpopt
insmod /rmpopt.ko emulate=trapped 2> /dev/null
test_that trap.parameter [ $? = 22 ]
