# What the command says in a machine with the module: of the driver as its files have it, of the machine
# itself that it has no RMPOPT. The settings say which CPU is the LAST, and whether the lab is compared (LAB).
. /lib.sh
insmod /msr.ko && insmod /cpuid.ko || failed "tool FAILED: msr or cpuid"
rmpopt() { /ld-linux-x86-64.so.2 --library-path / /rmpopt "$@"; }

# JSON with what grows by itself left out, an object or a value a line.
steady() { sed 's/"\(age_ms\|changed_ms_ago\)":[0-9]*//g; s/[{,]/&\n/g'; }
# Regions without what the emulated host of the module has not: nodes, and an RMP in its memory.
of_regions() { steady | sed '/^"regions":/,/^"schema_version"/!d; s/"nodes":\[.*//; s/"held_by":\[.*//; s/^[0-9]*\],*$//; s/^"rmp-table"\].*//'; }
says() { # FILE TEXT
    grep -qF "$2" $1 || { echo "$1 has no $2:"; cat $1; return 1; }
}

# The driver has nothing more to do, so that two looks find the same.
load emu_mem=18G emu_hole=2-3 && set_ audit_ms 0 || failed "tool FAILED: insmod gives $?"
control snp-init
settled() { # ROWS: so many regions on all cores
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        usleep 500000
        [ "$(grep -c "CPU(s): 0-$LAST\$" $E/rmpopt-table)" = $1 ] && usleep 1000000 && return 0
    done
    cat $E/rmpopt-table
    return 1
}
test_that tool.settled settled 16
for region in 0 1 4 17; do control assign $((region * 262144)) 1 9; done
control assign $((5 * 262144)) 1024 1 2m
control assign $((7 * 262144)) 512 2 2m
test_that tool.guests settled 9

# A snapshot says what the machine says.
snapshot() {
    rmpopt snapshot --deep -o /taken.json 2> /dev/null || return 1
    for command in status doctor regions; do
        rmpopt $command --deep --json | steady > /live
        rmpopt $command --json --from /taken.json 2> /dev/null | steady > /kept
        [ $(wc -l < /live) -gt 20 ] || return 2
        cmp /live /kept || { diff /live /kept; return 3; }
    done
    own='^rmp_\(sample\|scrape\|last_success\|driver_belief_age\)'
    rmpopt export --deep | grep -v "$own" > /live
    rmpopt export --from /taken.json | grep -v "$own" > /kept
    [ $(grep -c '^[a-z]' /live) -gt 40 ] || return 4
    cmp /live /kept || { diff /live /kept; return 5; }
}
test_that tool.snapshot snapshot

# What the driver says is what its files say.
rmpopt status --deep --json > /status
rmpopt regions --json > /regions
stats() {
    [ $(wc -l < $E/stats) -gt 20 ] || return 1
    while read key value; do says /status "\"$key\":$value" || return 2; done < $E/stats
}
test_that tool.stats stats
table() {
    says /status "\"rmpopt-table\",\"state\":\"answered\",\"source\":\"$E/rmpopt-table\"" || return 1
    # Each row by its number: on all cores, on none; the hole, GiB 2 and 3, has no RAM.
    sed 's/{"cores"/\n&/g' /regions > /by-region
    for region in 0 1 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do
        state=none
        grep "^Memory @ *${region}GB:" $E/rmpopt-table | grep -q "0-$LAST\$" && state=optimised
        grep -q "\"gib\":$region,.*\"ram_bytes\":1073741824,\"state\":\"$state\"" /by-region || return 2
    done
    [ $(grep -c '"gib"' /by-region) = 16 ]
}
test_that tool.table table
regions() {
    says /status '"policy":"tracked","life":"runs","first_pass_over":true' || return 1
    set_ pause 1
    rmpopt status --json > /paused
    set_ pause 0
    says /paused '"life":"paused"'
}
test_that tool.regions regions

# Nothing of that is taken for this machine's.
no_rmpopt() {
    says /status '"source":"/dev/cpu/N/cpuid"' || return 1
    says /status '"rmpopt_capable":false' || return 2
    says /status "\"RMPOPT_BASE\",\"number\":\"0xc0010139\",\"cpus_asked\":$((LAST + 1)),\"values\":[{\"value\":\"0x0\"" || return 3
    says /status "\"rmpopt\":{\"cores_asked\":$((LAST + 1)),\"cores_enabled\":0," || return 4
    says /status '"snp":{"enabled":false' || return 5
}
test_that tool.no-rmpopt no_rmpopt
emulated() {
    says /status '"emulated":true' || return 1
    says /status 'the driver runs on emulated hardware' || return 2
    rmpopt status > /text
    says /text 'rmpopt.ko, on emulated hardware' || return 3
    rmpopt top --once > /text
    says /text 'EMULATED' || return 4
    rmpopt labels > /text
    says /text 'rmpopt.emulated=true'
}
test_that tool.emulated emulated

# The lab's host in the same state: the same regions, driver, SNP_INITs and writes of bases.
lab() { # SECONDS
    rmpopt regions --json | of_regions > /ours
    rmpopt regions --json --from /lab-$1.json 2> /dev/null | of_regions > /labs
    [ $(grep -c '"state"' /ours) = 16 ] || return 1
    cmp /ours /labs || { diff /ours /labs; return 2; }
    rmpopt status --json > /ours
    rmpopt status --json --from /lab-$1.json > /labs 2> /dev/null
    for told in '"kind":"ours","evidence":"module rmpopt is loaded"' \
        '"policy":"tracked","life":"runs","first_pass_over":true' \
        '"snp_inits":1' "\"base_writes\":$((LAST + 1))" '"audits.failed":0'; do
        says /ours "$told" && says /labs "$told" || return 3
    done
}
if [ $LAB = yes ]; then test_that tool.lab-two-guests lab 8; fi
control share $((7 * 262144)) 512 2m
test_that tool.guest-ends settled 10
if [ $LAB = yes ]; then test_that tool.lab-one-guest lab 40; fi

# And when the module is gone.
rmmod rmpopt
gone() {
    rmpopt status --json > /status || return 1
    says /status '"driver":{"kind":"none"' || return 2
    says /status '"emulated":false' || return 3
    says /status '"source":"iomem"'
}
test_that tool.gone gone
