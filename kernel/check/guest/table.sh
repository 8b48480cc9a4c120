# The lab and the module in the same state: their tables are the same text.
. /lib.sh
load emu_mem=18G emu_hole=2-3 || failed "table FAILED: insmod gives $?"
# What the lab's host and its guests have (kernel/check/table.toml), by regions; an RMP entry each, or
# all of a guest's.
control snp-init
for region in 0 1 4 17; do control assign $((region * 262144)) 1 9; done
control assign $((5 * 262144)) 1024 1 2m
control assign $((7 * 262144)) 512 2 2m
same() { # LAB_FILE
    # Compared for as long as the driver needs.
    for n in 1 2 3 4 5 6 7 8 9 10; do
        usleep 300000
        cat $E/rmpopt-table > /ours
        cmp -s /ours $1 && return 0
    done
    diff /ours $1
    return 1
}
test_that table.two-guests same /lab-8s
control share $((7 * 262144)) 512 2m
test_that table.one-guest same /lab-40s
# They are not the same by being empty, or by never changing.
test_that table.differ [ "$(grep -c '0-3$' /lab-8s) $(grep -c '0-3$' /lab-40s)" = "9 10" ]
cat /ours
rmmod rmpopt
