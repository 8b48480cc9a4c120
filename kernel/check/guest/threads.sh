# Two threads a core: one of them runs RMPOPT for both.
. /lib.sh
siblings=$(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)
test_that threads.machine [ "$siblings" = 0-1 ]
load emu_mem=16G
control snp-init
usleep 500000
# 16 regions on 2 cores, audits aside.
executed=$(sed -n 's/^rmpopt.verify //p' $E/stats)
test_that threads.once-a-core [ "$executed" = 32 ]
rmmod rmpopt
played threads.life life 16 ""
played threads.lives lives 16 ""
under_hotplug threads.hotplug
