# Two threads a core: one of them runs RMPOPT for both.
. /lib.sh
siblings=$(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)
test_that threads.machine [ "$siblings" = 0-1 ]
load emu_mem=16G
control snp-init
within has $E/rmpopt-table 16 0-3
# 16 regions on 2 cores, audits aside.
test_that threads.once-a-core is rmpopt.verify 32
rmmod rmpopt
played threads.life life 16 ""
played threads.lives lives 16 ""
under_hotplug threads.hotplug
