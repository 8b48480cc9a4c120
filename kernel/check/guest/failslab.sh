# Each allocation of the module's start fails in turn. Which start is in `START`.
. /lib.sh
D=/sys/kernel/debug
echo clear > $D/kmemleak
# Of those below this function the kernel itself does not get over all: it warns, and one of them leaves it
# such that it refuses every probe from then on.
set -- $(grep -A1 ' register_ftrace_graph$' /proc/kallsyms | cut -d ' ' -f 1)
for kind in failslab fail_page_alloc; do
    # Also allocations that may wait, and nothing but the module's own line in the log.
    echo 0 > $D/$kind/ignore-gfp-wait
    echo 0 > $D/$kind/verbose
    echo 0x$1 > $D/$kind/reject-start
    echo 0x$2 > $D/$kind/reject-end
    echo 32 > $D/$kind/stacktrace-depth
done
echo 0 > $D/fail_page_alloc/min-order
echo 0 > $D/fail_page_alloc/ignore-gfp-highmem

test_that fail.each /check --fail-load /rmpopt.ko ${FAIL_STEP:-1} $START
# What was refused left nothing behind: all probes can be attached.
load emu_mem=4G
test_that fail.probes [ "$(grep -c '^\(rmp_make_shared\|rmp_make_private\|psmash\) attached' $E/probes)" = 3 ]
rmmod rmpopt
played fail.life life 16 ""
