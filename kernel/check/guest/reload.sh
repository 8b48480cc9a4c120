# The module goes and comes while the host, in a module of its own, stays: under each setting of what
# silicon may do on writes of the base and on edges of the enable bit.
. /lib.sh
H=/sys/kernel/debug/x86/rmpopt_emu
export LOAD="$FAST follow_ms=50 slow_us=5000"

# The host's own parameters are not the driver's to set.
insmod /rmpopt_emu.ko emu_mem=4G || failed "reload FAILED: insmod gives $?"
insmod /rmpopt.ko emulate=model emu_mem=4G 2> /dev/null
test_that reload.host-is-given [ $? = 22 ]
# While the driver is there, its host is, too.
stays() {
    insmod /rmpopt.ko emulate=model || return 1
    if rmmod rmpopt_emu 2> /dev/null; then return 2; fi
    rmmod rmpopt && rmmod rmpopt_emu
}
test_that reload.host-stays stays

# One host, one life with a dozen loads.
round() {
    insmod /rmpopt_emu.ko emu_mem=128G emu_choices=$1 || return 1
    /check 128 --kept /reload.txt > /told
    code=$?
    cat /told
    cat /told >> /all
    [ $code = 0 ] || { rmmod rmpopt; rmmod rmpopt_emu; return 2; }
    ! grep -q 'breaches [^0]' $H/laws || return 3
    rmmod rmpopt_emu
}
# What the kernel has given out, in KiB: areas of vmalloc, slabs that cannot be reclaimed, per-CPU memory.
# Areas without stacks of threads, which come and go with the load, without those that are given back but not
# yet purged, and without those of per-CPU memory.
given() {
    echo 3 > /proc/sys/vm/drop_caches
    awk '$3 !~ /^(kernel_clone|fork_idle|unpurged|pcpu_)/ { bytes += $2 } END { print bytes / 1024 }' \
        /proc/vmallocinfo
    for key in SUnreclaim Percpu; do sed -n "s/^$key: *\([0-9]*\) kB/\1/p" /proc/meminfo; done
}
test_that reload.warm round keeps,keeps
set -- $(given)
for choices in clears,clears clears,keeps clears,misses keeps,clears keeps,keeps keeps,misses \
    gp,clears gp,keeps gp,misses; do
    test_that reload.$choices round $choices
done
# Some of them went in the middle of a pass.
test_that reload.early grep -q ' [1-9][0-9]* unloads before all was done' /all
before="$1 $2 $3"
set -- $before $(given)
echo "counts loads $(dmesg | grep -c 'hardware is EMULATED'): KiB before $before, after $4 $5 $6"
# A load that left anything behind would have left it a hundred times.
test_that reload.vmalloc [ $4 -le $1 ]
test_that reload.slab [ $(($5 - $2)) -le 1024 ]
test_that reload.percpu [ $(($6 - $3)) -le 64 ]
test_that reload.nothing-left [ -z "$(grep rmpopt /proc/modules)" -a ! -e $E -a ! -e $H -a ! -e $C ]
