# The kernel's functions that are followed, in the stock kernel with its own KVM modules.
. /lib.sh
# probe FUNCTION STATE CALLS: what the module says of a probe.
probe() { grep -q "^$1 $2 $3 0$" $E/probes; }
kvm() {
    for module in irqbypass ccp kvm kvm-amd; do
        insmod /$module.ko || return 1
    done
}
no_kvm() {
    for module in kvm-amd kvm ccp irqbypass; do
        rmmod $module || return 1
    done
}

# call FUNCTION OPTIONS...: another module calls it.
call() {
    function=$1
    shift
    insmod /rmpopt_caller.ko function=$function "$@" && rmmod rmpopt_caller
}
# What one call takes, in ns: the shortest of twenty rounds.
nanoseconds() { # FUNCTION
    call $1 page=0 calls=2000 rounds=20 || return 1
    dmesg | sed -n "s/.*20 times 2000 calls of $1: \([0-9]*\) ns each.*/\1/p" | tail -n 1
}

# A kernel that sees to RMPOPT itself: another module has a function that only such a kernel has.
owned() {
    insmod /rmpopt_caller.ko function=psmash || return 1
    insmod /rmpopt.ko emulate=model 2> /dev/null
    [ $? = 16 ] || return 2
    dmesg | tail -n 2 | grep -q 'not loaded: .*kernel' || return 3
    rmmod rmpopt_caller
}
test_that gate.ebusy owned

failing=$(nanoseconds rmp_make_shared) made=$(nanoseconds rmpopt_stand_in_shared)
load emu_mem=4G
for function in rmp_make_shared rmp_make_private psmash; do
    test_that probe.$function probe $function attached 0
done
for function in __sev_do_cmd_locked snp_shutdown_on_panic snp_decommission_context; do
    test_that probe.absent.$function probe $function absent 0
done
control snp-init
# Another module calls the kernel's own; without SNP the calls fail, so that nothing is marked.
called() {
    for function in rmp_make_shared rmp_make_private psmash; do
        call $function page=262144 calls=3 || return 1
        probe $function attached 3 || return 2
    done
    grep -q '^marks.shared 0$' $E/stats && grep -q '^marks.lost 0$' $E/stats
}
test_that probe.called called
# Stand-ins are followed as their module comes. A call that fails is no mark; one that succeeds marks
# its region, which is then verified.
marks() {
    within has $E/rmpopt-table 4 'CPU(s): 0-3' || return 12
    call rmpopt_stand_in_shared page=786432 result=-19 || return 1
    call rmpopt_stand_in_private page=786432 result=-5 || return 2
    call rmpopt_stand_in_psmash page=786432 result=3 || return 3
    [ "$(value marks.shared) $(value marks.lost)" = "0 0" ] || return 4
    before=$(value rmpopt.leader)
    call rmpopt_stand_in_private page=786433 || return 5
    call rmpopt_stand_in_psmash page=786432 || return 6
    within above marks.lost 0 && is marks.shared 0 || return 7
    call rmpopt_stand_in_shared page=786433 || return 8
    within above marks.shared 0 || return 9
    within above rmpopt.leader $before || return 10
    within has $E/rmpopt-table 4 'CPU(s): 0-3' || return 11
    probe rmpopt_stand_in_shared absent 2
}
test_that probe.marks marks

# What following costs; the calls were seen.
cost() {
    echo "counts ns a call, not followed: rmp_make_shared (fails) $failing, a stand-in (succeeds) $made"
    failing=$(nanoseconds rmp_make_shared) made=$(nanoseconds rmpopt_stand_in_shared)
    echo "counts ns a call, followed: rmp_make_shared (fails) $failing, a stand-in (succeeds) $made"
    probe rmp_make_shared attached 40003 && probe rmpopt_stand_in_shared absent 40002
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
