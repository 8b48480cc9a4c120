use snp_lab::scenario::{
    Action, Grain, GuestKind, PlacementRule, PolicyName, PolicySpec, RmpKind, SnpBy,
};

use super::*;
use crate::scenario::{parse, parse_whole};
use crate::trace_input::{TraceFormat, TraceOptions};

const HEAD: &str = "schema_version = 1\nname = \"t\"\n\
    host = { sockets = 1, cores_per_socket = 8, memory = \"64GiB\" }\n";

fn fails(text: &str) -> String {
    parse("t.toml", text).unwrap_err().to_string()
}

fn fails_after_head(text: &str) -> String {
    fails(&format!("{HEAD}{text}"))
}

#[test]
fn every_key() {
    let scenario = parse(
        "t.toml",
        r#"
schema_version = 1
name = "all"
description = "every key"
why = """
Two
lines.
"""
until = "5m"
placement = "advised"
[host]
sockets = 2
cores_per_socket = 4
threads = 1
memory = "8GiB"
nps = 2
rmp = "contiguous"
nohz_full = "1-3,7"
[[guest]]
name = "a"
kind = "snp"
memory = "1GiB"
placement = "4k-scattered"
at = "10s"
until = "1m"
vcpus = 2
node = 3
touched = 0.5
convert_rate = "2GiB/s"
accept = "4k"
[[guest]]
kind = "snp"
memory = "2GiB"
at = "0s"
count = 2
[[event]]
at = "30s"
action = "private"
guest = "a"
memory = "4KiB"
[[event]]
at = "20s"
action = "share"
guest = "a"
memory = "16MiB"
unit = "4k"
[[event]]
at = "40s"
action = "leak"
guest = "snp-2"
pages = 3
[[event]]
at = "1m"
action = "cpu-offline"
cpu = 7
[policy]
name = "v10"
delay = "1s"
bound = "10s"
budget = "100us"
follow_by = "5s"
followers = 4
audit = "0s"
tick = "250ms"
"#,
    )
    .unwrap();
    assert_eq!(scenario.until, Some(300 * SECOND));
    assert_eq!(scenario.host.rmp, RmpKind::Contiguous);
    assert_eq!(scenario.host.nohz_full, [(1, 3), (7, 7)]);
    assert_eq!(scenario.why, "Two lines.");
    let a = &scenario.guests[0];
    assert_eq!((a.kind, a.vcpus, a.node), (GuestKind::Snp, 2, Some(3)));
    assert_eq!((a.touched, a.convert_rate), (512 << 20, Some(2 << 30)));
    assert_eq!((a.accept, scenario.guests[1].accept), (Grain::Small, Grain::Large));
    let names: Vec<&str> = scenario.guests.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["a", "snp-2-1", "snp-2-2"]);
    assert_eq!(scenario.guests[1].vcpus, 1);
    let actions: Vec<Action> = scenario.events.iter().map(|e| e.action).collect();
    assert_eq!(
        actions,
        [
            Action::Share { guest: 0, memory: 16 << 20, unit: Some(Grain::Small) },
            Action::Private { guest: 0, memory: 4096, unit: None },
            Action::Leak { guest: 1, pages: 3 },
            Action::Leak { guest: 2, pages: 3 },
            Action::CpuOffline { cpu: 7 },
        ]
    );
    assert_eq!(scenario.policy.name, Some(PolicyName::V10));
    assert_eq!(scenario.policy.follow_by, Some(5 * SECOND));
    assert_eq!(scenario.policy.audit, Some(0));
    assert_eq!(scenario.rule, PlacementRule::Advised);
}

#[test]
fn traces() {
    let trace = |keys: &str| format!("{HEAD}[trace]\nfile = \"a.csv\"\n{keys}");
    let (_, wanted) = parse_whole("t.toml", &trace("")).unwrap();
    assert_eq!(wanted.unwrap().options, TraceOptions::default());
    let all =
        "format = \"openb\"\nsample = 0.25\nsample_seed = 7\nsnp_share = 0.5\nsnp_by = \"memory\"";
    let (_, wanted) = parse_whole("t.toml", &trace(all)).unwrap();
    let options = TraceOptions {
        format: TraceFormat::Openb,
        sample: 0.25,
        sample_seed: 7,
        snp_share: 0.5,
        snp_by: SnpBy::Memory,
    };
    let wanted = wanted.unwrap();
    assert_eq!((wanted.file.as_str(), wanted.options), ("a.csv", options));
    for (keys, says) in [
        ("sample = 0", "t.toml:6:10: trace.sample: expected more than 0, at most 1, found 0"),
        ("sample = 1.5", "t.toml:6:10: trace.sample: expected 0 to 1, found 1.5"),
        ("snp_share = -1", "t.toml:6:13: trace.snp_share: expected 0 to 1, found -1"),
        ("sample_seed = -1", "t.toml:6:15: trace.sample_seed: expected 0 to 4294967295, found -1"),
        (
            "format = \"csv\"",
            "t.toml:6:10: trace.format: expected one of \"auto\", \"openb\", \"dlrm\", \
             \"azure-v1\", \"azure-v2\", \"azure-packing\", found \"csv\"",
        ),
    ] {
        assert_eq!(fails(&trace(keys)), says);
    }
    assert_eq!(
        fails_after_head("[trace]\nfile = \"\""),
        "t.toml:5:8: trace.file: expected a file, found nothing"
    );
}

#[test]
fn defaults() {
    let scenario = parse("t.toml", HEAD).unwrap();
    assert_eq!(
        scenario.host.topology,
        TopologySpec::Regular(TopologyNumbers {
            sockets: 1,
            cores_per_socket: 8,
            threads: 2,
            nps: 1
        })
    );
    assert_eq!(scenario.policy, PolicySpec::default());
    assert_eq!(scenario.until, None);
    assert_eq!(scenario.rule, PlacementRule::Ordered);
}

#[test]
fn what_is_missing_or_unknown() {
    assert_eq!(
        fails("name = \"x\"\n"),
        "t.toml:1:1: missing key \"schema_version\", expected \"schema_version = 1\""
    );
    assert_eq!(
        fails("schema_version = 2\nfoo = 1"),
        "t.toml:1:18: schema_version: expected 1, found 2"
    );
    assert_eq!(fails("schema_version = 1\n"), "t.toml:1:1: missing key \"name\"");
    assert_eq!(
        fails("schema_version = 1\nname = \"x\"\n[host]\nsocket = 2\n"),
        "t.toml:4:1: host.socket: unknown key \"socket\", expected one of \"sockets\", \
         \"cores_per_socket\", \"threads\", \"memory\", \"nps\", \"rmp\", \"nohz_full\""
    );
    assert_eq!(
        fails_after_head("[[guest]]\nkind = \"snp\"\nmemory = \"1GiB\"\n"),
        "t.toml:4:1: guest[1]: missing key \"at\""
    );
}

#[test]
fn wrong_types() {
    assert_eq!(
        fails_after_head("[[guest]]\nat = 10\n"),
        "t.toml:5:6: guest[1].at: invalid type: integer \"10\", expected a duration such as \"10s\""
    );
    assert_eq!(
        fails_after_head("[[guest]]\nkind = \"tdx\"\n"),
        "t.toml:5:8: guest[1].kind: expected one of \"snp\", \"ordinary\", found \"tdx\""
    );
    assert_eq!(
        fails("schema_version = 1\nname = \"x\"\n[host]\nsockets = \"two\"\n"),
        "t.toml:4:11: host.sockets: invalid type: string \"two\", expected a whole number"
    );
    assert_eq!(
        fails("schema_version = 1\nname = 7\n"),
        "t.toml:2:8: name: invalid type: integer \"7\", expected a text in quotes"
    );
    assert!(fails("schema_version = 1\nname = \"x\nb").starts_with("t.toml:2:"));
}

#[test]
fn ranges() {
    let host = |keys: &str| fails(&format!("schema_version = 1\nname = \"x\"\n[host]\n{keys}"));
    assert_eq!(
        host("sockets = -1\ncores_per_socket = 1\nmemory = \"4GiB\""),
        "t.toml:4:11: host.sockets: expected 1 to 8, found -1"
    );
    assert_eq!(
        host("sockets = 8\ncores_per_socket = 1024\nmemory = \"4GiB\""),
        "t.toml:5:20: host.cores_per_socket: expected at most 4096 cores on all sockets, found 8192"
    );
    assert_eq!(
        host("sockets = 1\ncores_per_socket = 1\nmemory = \"13TiB\""),
        "t.toml:6:10: host.memory: expected 2GiB to 12TiB, found 13TiB"
    );
    assert_eq!(
        host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnohz_full = \"1-12\""),
        "t.toml:7:13: host.nohz_full: expected CPUs 0 to 11, found 12"
    );
    assert_eq!(
        host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnohz_full = \"all\""),
        "t.toml:7:13: host.nohz_full: expected CPUs such as \"1-7,16\", found \"all\""
    );
    assert_eq!(
        host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnps = 4"),
        "t.toml:7:7: host.nps: 6 cores do not divide into 4 nodes"
    );
    assert_eq!(
        fails_after_head("[policy]\ndelay = \"10s\"\nbound = \"5s\""),
        "t.toml:6:9: policy.bound: expected at least the delay of 10s, found 5s"
    );
    assert_eq!(
        fails_after_head("[policy]\nfollowers = 0"),
        "t.toml:5:13: policy.followers: expected 1 to 4096, found 0"
    );
}

fn guest(keys: &str) -> String {
    format!("[[guest]]\nkind = \"snp\"\nmemory = \"1GiB\"\nat = \"10s\"\n{keys}\n")
}

#[test]
fn guests_against_each_other_and_the_host() {
    let memory = |m: &str| {
        fails_after_head(&format!("[[guest]]\nkind = \"snp\"\nat = \"1s\"\nmemory = \"{m}\"\n"))
    };
    let at = "t.toml:7:10: guest[1].memory:";
    assert_eq!(memory("0GiB"), format!("{at} expected 4KiB to 64GiB, found 0B"));
    assert_eq!(memory("65GiB"), format!("{at} expected 4KiB to 64GiB, found 65GiB"));
    assert_eq!(memory("1025KiB"), format!("{at} expected a multiple of 2MiB, found 1025KiB"));
    assert_eq!(
        fails_after_head(&guest("until = \"10s\"")),
        "t.toml:8:9: guest[1].until: ends at 10s, expected later than its start at 10s"
    );
    assert_eq!(
        fails_after_head(&guest("node = 1")),
        "t.toml:8:8: guest[1].node: expected 0 to 0, found 1"
    );
    assert_eq!(
        fails_after_head(&guest("touched = 1.5")),
        "t.toml:8:11: guest[1].touched: expected 0 to 1, found 1.5"
    );
    assert_eq!(
        fails_after_head(&(guest("name = \"a\"") + &guest("name = \"a\""))),
        "t.toml:13:8: guest[2].name: the guest of line 8 is already named \"a\""
    );
    assert_eq!(
        fails_after_head(&(guest("name = \"a\"\ncount = 2") + &guest("name = \"a-2\""))),
        "t.toml:14:8: guest[2].name: the guest of line 8 is already named \"a-2\""
    );
    assert_eq!(
        fails(&format!("until = \"5s\"\n{HEAD}{}", guest(""))),
        "t.toml:8:6: guest[1].at: starts at 10s, but the scenario ends at 5s"
    );
}

#[test]
fn events_against_guests_and_cpus() {
    let event = |keys: &str| {
        fails_after_head(&format!("{}[[event]]\n{keys}\n", guest("name = \"a\"\nuntil = \"1m\"")))
    };
    assert_eq!(
        event("at = \"20s\"\naction = \"share\"\nguest = \"b\"\nmemory = \"4KiB\""),
        "t.toml:13:9: event[1].guest: no guest is named \"b\""
    );
    assert_eq!(
        event("at = \"2m\"\naction = \"share\"\nguest = \"a\"\nmemory = \"4KiB\""),
        "t.toml:11:6: event[1].at: \"a\" runs from 10s to 1m, not at 2m"
    );
    assert_eq!(
        event("at = \"20s\"\naction = \"share\"\nguest = \"a\""),
        "t.toml:12:10: event[1].action: action \"share\" needs \"memory\""
    );
    let ordinary = "[[guest]]\nname = \"o\"\nkind = \"ordinary\"\nmemory = \"1GiB\"\nat = \"1s\"\n";
    for action in ["leak\"\npages = 1", "share\"\nmemory = \"4KiB\""] {
        let keys = format!("[[event]]\nat = \"2s\"\nguest = \"o\"\naction = \"{action}\n");
        assert_eq!(
            fails_after_head(&format!("{ordinary}{keys}")),
            "t.toml:11:9: event[1].guest: \"o\" is an ordinary guest, expected an SNP guest"
        );
    }
    assert_eq!(
        event("at = \"20s\"\naction = \"pause\"\ncpu = 3"),
        "t.toml:13:7: event[1].cpu: does not belong to action \"pause\", which takes no further key"
    );
    assert_eq!(
        event("at = \"20s\"\naction = \"leak\"\nguest = \"a\"\npages = 1\nunit = \"4k\""),
        "t.toml:15:8: event[1].unit: does not belong to action \"leak\", which takes \"guest\" and \"pages\""
    );
    assert_eq!(
        event("at = \"20s\"\naction = \"share\"\nguest = \"a\"\nmemory = \"4KiB\"\nunit = \"1g\""),
        "t.toml:15:8: event[1].unit: expected one of \"4k\", \"2m\", found \"1g\""
    );
    assert_eq!(
        event("at = \"20s\"\naction = \"cpu-offline\"\ncpu = 16"),
        "t.toml:13:7: event[1].cpu: expected 0 to 15, found 16"
    );
    assert_eq!(
        event("at = \"20s\"\naction = \"explode\""),
        "t.toml:12:10: event[1].action: expected one of \"share\", \"private\", \"leak\", \
         \"snp-init\", \"snp-shutdown\", \"cpu-offline\", \"cpu-online\", \"request\", \
         \"pause\", \"resume\", found \"explode\""
    );
}
