# The module on a machine without RMPOPT. $REASON: what it must say.
. /lib.sh
dmesg -c > /dev/null
insmod /rmpopt.ko > /told 2>&1
test_that gate.enodev [ $? = 19 ]
test_that gate.nothing-left [ ! -e $E -a ! -e /sys/module/rmpopt ]
# busybox's insmod tries two system calls: the reason is there for each. On a busy host the kernel may say
# at any time what it thinks of the emulated machine's clocks.
dmesg | sed 's/^\[[^]]*\] //' | grep -v '^clocksource: ' | uniq > /log
cat /log
cat > /expected <<EOF
rmpopt: loading out-of-tree module taints kernel.
rmpopt: module verification failed: signature and/or required key missing - tainting kernel
rmpopt: not loaded: $REASON
EOF
test_that gate.log cmp /log /expected
