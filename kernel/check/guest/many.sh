# 64 CPUs.
. /lib.sh
played many.life life 16 ""
played many.v10 v10-64 16 --hardware policy=v10
played many.lives lives 64 ""

# What a pass costs, by policy: the first pass, and one after four of 16 regions came back.
show() { # NAME
    echo "counts $1: $(for key in rmpopt.executed rmpopt.leader rmpopt.followers ipis wakeups interruptions.total; do
        sed -n "s/^$key //p" $E/stats; done | tr '\n' ' ')ridden $(sed -n 's/^holds.ridden //p' $E/stats) woken $(sed -n 's/^holds.woken //p' $E/stats)"
}
whole() { # the tables are full
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(grep -c 'CPU(s): 0-63' $E/emu/table)" = 16 ] && return 0
        usleep 1000000
    done
    return 1
}
counted() { # POLICY
    load emu_mem=16G policy=$1 && set_ audit_ms 0 || return 1
    control snp-init && whole || return 2
    usleep 500000
    show "$1 first"
    for region in 0 1 2 3; do
        control assign $((region * 262144)) 4 5 && control share $((region * 262144)) 4 || return 3
    done
    # Upstream's delay of 10 s is not waited for.
    if [ $1 = v10 ]; then control optimise; fi
    usleep 500000
    whole || return 4
    usleep 500000
    show "$1 both"
    rmmod rmpopt
}
test_that many.counts-tracked counted tracked
test_that many.counts-v10 counted v10
