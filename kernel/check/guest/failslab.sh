# Each allocation of the module's start fails in turn.
. /lib.sh
D=/sys/kernel/debug
echo clear > $D/kmemleak
for kind in failslab fail_page_alloc; do
    # Also allocations that may wait, and nothing but the module's own line in the log.
    echo 0 > $D/$kind/ignore-gfp-wait
    echo 0 > $D/$kind/verbose
done
echo 0 > $D/fail_page_alloc/min-order
echo 0 > $D/fail_page_alloc/ignore-gfp-highmem

test_that fail.model /check --fail-load /rmpopt.ko ${FAIL_STEP:-1} emulate=model emu_mem=4G
test_that fail.up /check --fail-load /rmpopt.ko ${FAIL_STEP:-1} emulate=trap emu_mem=4G emu_up=left adopt=1
# What was refused left nothing behind.
played fail.life life 16 ""
