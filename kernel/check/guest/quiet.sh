# After everything else in a debug kernel: nothing that it checks was broken, and it still checks.
# The first report would have switched the locks' check off.
test_that quiet.locks grep -q '^ debug_locks: *1$' /proc/lockdep_stats
objects() {
    value() { sed -n "s/^$1 *: //p" /sys/kernel/debug/debug_objects/stats; }
    # Without memory for its own records that check goes off, and forgets all objects.
    [ "$(value warnings)" = 0 -a "$(value pool_used)" -gt 0 ]
}
test_that quiet.objects objects
leaks() {
    # What is younger than 5 s is not looked at; the second look is for what the first saw on a stack.
    usleep 6000000
    echo scan > /sys/kernel/debug/kmemleak && usleep 1000000 || return 1
    echo scan > /sys/kernel/debug/kmemleak || return 1
    cat /sys/kernel/debug/kmemleak > /leaks
    cat /leaks
    [ ! -s /leaks ]
}
test_that quiet.leaks leaks
