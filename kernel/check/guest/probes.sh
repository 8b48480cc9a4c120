# The kernel's functions that are followed, in the stock kernel with its own KVM modules.
. /lib.sh
# probe FUNCTION STATE CALLS: what the module says of a probe.
probe() { grep -q "^$1 $2 $3 0$" $E/probes; }
kvm() {
    for module in irqbypass tsm_report ccp kvm kvm-amd; do
        insmod /$module.ko || return 1
    done
}
no_kvm() {
    for module in kvm-amd kvm ccp tsm_report irqbypass; do
        rmmod $module || return 1
    done
}

load emu_mem=4G
for function in rmp_make_shared rmp_make_private psmash; do
    test_that probe.$function probe $function attached 0
done
for function in __sev_do_cmd_locked snp_shutdown_on_panic snp_decommission_context; do
    test_that probe.absent.$function probe $function absent 0
done
control snp-init
for page in 1 262144 524288; do control rmp-make-shared $page; done
test_that probe.called probe rmp_make_shared attached 3
# Without SNP the calls fail, so that nothing was marked.
test_that probe.failed-call-is-no-mark grep -q '^marks.shared 0$' $E/stats

# What following costs; the calls were seen.
cost() {
    control time-conversions 2000 || return 1
    probe rmp_make_shared attached 20003
}
test_that probe.cost cost

# SNP's life by the firmware's commands.
rmmod rmpopt
played probe.life events 2048 ""
load emu_mem=4G

# ccp and kvm_amd come, go and come again.
test_that probe.kvm-loads kvm
test_that probe.ccp-followed probe __sev_do_cmd_locked attached 0
test_that probe.panic-followed probe snp_shutdown_on_panic attached 0
test_that probe.kvm-followed probe snp_decommission_context attached 0
# A virtual machine is created and closed: kvm_amd is followed there, and it is no SNP guest's end.
vm() {
    /check --vm || return 1
    probe sev_vm_destroy attached 1 || return 2
    probe snp_decommission_context attached 0
}
test_that probe.vm vm
test_that probe.kvm-unloads no_kvm
test_that probe.ccp-let-go probe __sev_do_cmd_locked absent 0
test_that probe.kvm-loads-again kvm
test_that probe.kvm-followed-again probe snp_decommission_context attached 0
rmmod rmpopt
# Loaded after them.
load emu_mem=4G
test_that probe.kvm-found probe snp_decommission_context attached 0
test_that probe.unloads rmmod rmpopt
test_that probe.kvm-unloads-after no_kvm
