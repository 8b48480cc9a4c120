#!/bin/bash
# The package's units under systemd, in the machine of `cargo xtask deb --boot`. It is booted twice: the
# first time the package is installed and its units are enabled, the second time they start by themselves.
# Each test prints one line, "test: NAME ok" or "test: NAME FAILED why".
exec > /dev/ttyS0 2>&1
cd /check || exit 1
PATH=/usr/sbin:/usr/bin

EXPORTER=rmpopt-exporter.service
ALL="$EXPORTER rmpopt-snapshot.timer rmpopt-snapshot.service rmpopt-textfile.path rmpopt-textfile.service
    rmpopt-labels.path rmpopt-labels.service"
SNAPSHOT=/run/rmpopt/snapshot.json
PROM=/var/lib/prometheus/node-exporter/rmpopt.prom
FEATURES=/etc/kubernetes/node-feature-discovery/features.d
DRIVER=/sys/kernel/debug/x86/rmpopt

# test_that NAME COMMAND...: the command succeeds. What it says is shown.
test_that() {
    local name=$1 code
    shift
    if "$@"; then echo "test: $name ok"; else code=$?; echo "test: $name FAILED: $* gives $code"; fi
}
# within SECONDS COMMAND...: it succeeds in that time.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { "$@"; return; }
        sleep 1
    done
}
# scrape PORT [ADDRESS]: a page of metrics.
scrape() { timeout 10 bash -c "exec 3<> /dev/tcp/${2:-127.0.0.1}/$1 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 &&
    sed '1,/^\r\$/d' <&3"; }
page() { scrape 9749 > /check/page; }
# value SAMPLE: its value in the page.
value() { sed -n "s/^$1 //p" /check/page; }
says() { # FILE TEXT
    grep -qF -- "$2" "$1" || { echo "$1 has no $2:"; cat "$1"; return 1; }
}
pid() { systemctl show --value --property MainPID $EXPORTER; }
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(pid)/status"; }
active() { [ "$(systemctl is-active "$@" | sort -u)" = active ]; }
# Every path with its kind, mode and owner. What dpkg, systemd and the journal keep for themselves is left out.
listing() {
    find / -xdev \( -path /check -o -path /tmp -o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/log \
        -o -path /var/cache -o -path /var/lib/systemd \) -prune -o -printf '%p %M %U %G\n' | sort
}

installed() {
    dpkg --install rmpopt.deb > /check/told || { cat /check/told; return 1; }
    getent group rmpopt > /dev/null || return 2
    # Off until they are enabled.
    [ -z "$(systemctl list-units --no-legend 'rmpopt-*')" ] || return 3
    ! systemctl is-enabled $ALL | grep -qx enabled || return 4
}
enabled() { # as README.Debian says
    systemctl enable --now rmpopt-snapshot.timer $EXPORTER || return 1
    within 60 active rmpopt-snapshot.timer $EXPORTER || return 2
    within 60 page
}
# A user of its own without any right, who is in the group of those who may read the snapshots.
unprivileged() {
    local uid group
    read -r uid _ <<< "$(status Uid)"
    group=$(getent group rmpopt | cut -d: -f3)
    echo "user $uid, groups $(status Groups), CapEff $(status CapEff), Seccomp $(status Seccomp)"
    { [ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ]; } || return 1
    [[ " $(status Groups) " == *" $group "* ]] || return 2
    [ "$(status CapEff)$(status CapBnd)" = 00000000000000000000000000000000 ] || return 3
    [ "$(status NoNewPrivs) $(status Seccomp)" = "1 2" ]
}
kept_from_others() {
    [ "$(stat -c '%a %U:%G' $SNAPSHOT)" = "640 root:rmpopt" ] || return 1
    [ "$(stat -c '%a %U:%G' /run/rmpopt)" = "750 root:rmpopt" ] || return 2
    ! setpriv --reuid nobody --regid nogroup --clear-groups cat $SNAPSHOT 2> /dev/null
}
# All that only root may read was read.
facts() {
    local fact
    page || return 1
    for fact in cpuid:/dev/cpu/N/cpuid ram:/proc/iomem guests:/proc/PID/cmdline kernel-log:/dev/kmsg; do
        says page "{fact=\"${fact%%:*}\",state=\"answered\",source=\"${fact#*:}\"} 1" || return 2
    done
    ! grep 'state="\(forbidden\|malformed\)"' page
}
# Each question of the snapshot was answered as it is for root without any hardening.
as_root_sees() {
    systemctl start rmpopt-snapshot.service || return 1
    cp $SNAPSHOT theirs.json
    rmpopt snapshot --redact --replace -o root.json 2> /dev/null || return 2
    local at
    for at in theirs root; do
        rmpopt status --json --from $at.json > $at.status 2> /dev/null || return 3
        grep -o '"fact":"[^"]*","state":"[^"]*"' $at.status > $at.facts
        rmpopt export --from $at.json 2> /dev/null | grep -v '^rmp_\(last_success\|scrape\|driver_belief_age\)' > $at.metrics
    done
    [ "$(wc -l < root.facts)" -gt 10 ] || return 4
    diff root.facts theirs.facts && diff root.metrics theirs.metrics
}
# Between two scrapes without a new snapshot the age grows as the clock does; with one it falls.
ages() {
    local first second when
    systemctl stop rmpopt-snapshot.timer
    sleep 20 # until the exporter has read the last one
    page && first=$(value rmp_sample_age_seconds) && when=$(value rmp_last_success_timestamp_seconds) || return 1
    sleep 40
    page && second=$(value rmp_sample_age_seconds) || return 2
    echo "age $first, 40 s later $second"
    [ "$when" = "$(value rmp_last_success_timestamp_seconds)" ] || return 3
    [ "${second%.*}" -ge $((${first%.*} + 39)) ] && [ "${second%.*}" -le $((${first%.*} + 50)) ] || return 4
    systemctl start rmpopt-snapshot.timer || return 5
    within 60 younger 30
}
younger() { page && local age && age=$(value rmp_sample_age_seconds) && [ "${age%.*}" -lt "$1" ]; }
# The timer goes on by itself.
ticks() {
    local first
    first=$(stat -c %Y $SNAPSHOT)
    sleep 75
    local now=$(($(date +%s) - $(stat -c %Y $SNAPSHOT)))
    echo "written $(($(stat -c %Y $SNAPSHOT) - first)) s after the first, $now s ago"
    [ "$(stat -c %Y $SNAPSHOT)" -gt $((first + 25)) ] && [ $now -le 45 ]
}
# The driver's numbers.
driver() {
    modprobe rmpopt emulate=model emu_mem=16G delay_ms=100 || return 1
    echo snp-init > $DRIVER/emu/control || return 2
    within 60 settled 16 || return 3
    systemctl start rmpopt-snapshot.service && within 60 younger 20 || return 4
    says page 'rmp_driver_info{driver="rmpopt",policy="tracked",life="runs",emulated="true"} 1' || return 5
    says page 'rmp_regions{state="optimized"} 16' || return 6
    says page 'rmp_source_info{fact="driver-stats",state="answered"' || return 7
}
settled() { [ "$(grep -c 'CPU(s): 0-1$' $DRIVER/rmpopt-table)" = "$1" ]; }
guest() {
    echo "assign 0 64 5" > $DRIVER/emu/control
    within 60 settled 15 || { cat $DRIVER/rmpopt-table; return 1; }
    within 90 lost
}
lost() { page && grep -qx 'rmp_regions{state="optimized"} 15' page; }
# What the driver counts; these two stay as they are while the snapshot is taken.
counts() {
    local key
    page || return 1
    for key in base_writes:rmp_base_writes_total snp_inits:snp_inits_total; do
        says page "${key#*:} $(sed -n "s/^${key%%:*} //p" $DRIVER/stats)" || return 2
    done
    [ "$(value snp_inits_total) $(value rmp_base_writes_total)" = "1 2" ]
}

textfile() {
    systemctl enable --now rmpopt-textfile.path || return 1
    within 90 test -s $PROM || return 2
    [ "$(stat -c %a $PROM)" = 644 ] || return 3
    scrape 9100 > node || return 4
    says node 'node_textfile_scrape_error 0' && says node 'rmp_build_info{' &&
        says node 'rmp_source_info{fact="kernel-log",source="/dev/kmsg",state="answered"} 1'
}
labels() {
    mkdir -p $FEATURES
    systemctl enable --now rmpopt-labels.path || return 1
    within 90 test -s $FEATURES/rmpopt || return 2
    [ "$(stat -c %a $FEATURES/rmpopt)" = 644 ] || return 3
    says $FEATURES/rmpopt '# +expiry-time=' && says $FEATURES/rmpopt 'feature.node.kubernetes.io/snp.enabled='
}
# Followers write at each snapshot, not only once.
followed() {
    touch -d @0 $PROM $FEATURES/rmpopt
    systemctl start rmpopt-snapshot.service || return 1
    within 30 test $PROM -nt /check/units.sh && within 30 test $FEATURES/rmpopt -nt /check/units.sh
}

killed() {
    local before
    before=$(pid)
    kill -KILL "$before"
    sleep 1
    within 30 again "$before" || return 1
    within 30 page
}
again() { local now; now=$(pid); [ "$now" != 0 ] && [ "$now" != "$1" ]; }
# Nothing but the loopback reaches it, whatever it listens at; another address as the guide says.
elsewhere() {
    local code
    reached
    code=$?
    rm -r /etc/systemd/system/$EXPORTER.d
    systemctl daemon-reload && systemctl restart $EXPORTER && within 30 page && return $code
}
reached() {
    ip addr add 10.9.9.9/32 dev lo
    dropin "Environment=LISTEN=0.0.0.0:9749" && within 30 scrape 9749 || return 1
    ! scrape 9749 10.9.9.9 2> /dev/null || return 2
    dropin "Environment=LISTEN=10.9.9.9:9750" && sleep 3 && ! scrape 9750 10.9.9.9 2> /dev/null || return 3
    dropin "Environment=LISTEN=10.9.9.9:9750" IPAddressAllow=10.9.9.9 SocketBindAllow=tcp:9750 || return 4
    within 30 scrape 9750 10.9.9.9 && scrape 9750 10.9.9.9 > page && says page 'rmp_build_info{'
}
dropin() { # LINES
    mkdir -p /etc/systemd/system/$EXPORTER.d
    { echo "[Service]"; printf '%s\n' "$@"; } > /etc/systemd/system/$EXPORTER.d/override.conf
    systemctl daemon-reload && systemctl restart $EXPORTER
}

# Nobody was refused anything, nothing has failed.
quiet() {
    local said
    journalctl --sync
    said=$(journalctl --boot --no-pager --output short-monotonic -u 'rmpopt-*' |
        grep -i 'denied\|not permitted\|fail\|cannot\|error\|warning\|timed\? \?out\|killed\|refus')
    said+=$(journalctl --boot --no-pager -k | grep -i 'type=1326\|segfault')
    [ -z "$said" ] || { echo "$said"; return 1; }
    [ -z "$(systemctl list-units --failed --no-legend 'rmpopt-*')" ]
}
stopped() {
    systemctl stop rmpopt-snapshot.timer $EXPORTER rmpopt-textfile.path rmpopt-labels.path || return 1
    # What runs once may be under way.
    within 60 nothing_runs || return
    # The last snapshot stays until it is cleaned up, or the machine boots.
    [ -s $SNAPSHOT ] && systemctl clean --what=runtime rmpopt-snapshot.service && [ ! -e /run/rmpopt ]
}
nothing_runs() {
    local left
    ! grep -lx rmpopt /proc/[0-9]*/comm 2> /dev/null || return 11
    ! page 2> /dev/null || return 12
    left=$(find /sys/fs/cgroup /run/systemd -name '*rmpopt-*'; systemctl list-units --no-legend 'rmpopt-*')
    [ -z "$left" ] || { echo "$left"; return 13; }
}

started_by_itself() {
    within 60 active $EXPORTER rmpopt-snapshot.timer rmpopt-textfile.path rmpopt-labels.path || return 1
    within 60 younger 60
}
upgraded() {
    local before
    before=$(pid)
    dpkg --install rmpopt.deb > told 2>&1 || { cat told; return 1; }
    within 30 again "$before" || return 2
    within 30 page || return 3
    active rmpopt-snapshot.timer rmpopt-textfile.path rmpopt-labels.path
}
removed() {
    dpkg --remove rmpopt > told 2>&1 || { cat told; return 1; }
    nothing_runs || return
    [ ! -e $PROM ] && [ ! -e $FEATURES/rmpopt ] && [ ! -e /run/rmpopt ]
}
purged() {
    dpkg --purge rmpopt > told 2>&1 || { cat told; return 1; }
    rm -rf /etc/kubernetes
    # The group stays, as the package says.
    listing > after
    diff before after
}

if [ ! -e before ]; then
    listing > before
    test_that units.installed installed
    test_that units.enabled enabled
    test_that units.unprivileged unprivileged
    test_that units.kept-from-others kept_from_others
    test_that units.facts facts
    test_that units.as-root-sees as_root_sees
    test_that units.ages ages
    test_that units.ticks ticks
    test_that units.driver driver
    test_that units.guest guest
    test_that units.counts counts
    test_that units.as-root-sees-the-driver as_root_sees
    test_that units.textfile textfile
    test_that units.labels labels
    test_that units.followed followed
    test_that units.quiet quiet
    test_that units.killed killed
    test_that units.elsewhere elsewhere
    test_that units.stopped stopped
    echo "guest: end"
    systemctl poweroff
    exit
fi
test_that units.started-by-itself started_by_itself
test_that units.quiet-after-boot quiet
test_that units.upgraded upgraded
test_that units.removed removed
test_that units.purged purged
echo "guest: end"
systemctl poweroff
