//! docs/not-modelled.md names every switch of the model, every value and every named table.
//!
//! The patterns below have no `..` and no `_`: a new switch or value does not compile until it is
//! listed here, and the test fails until the page has it.

use snp_model::{
    BaseWrite, Choices, EnableToggle, Errata, FirmwareChoices, FreeWithOwner, GuestOrder,
    LaunchOrder, NeighbourRace, NotLarge, OutsideWindow, PvalidateVmpl, QueryOwn, RmpAddress,
    ScanCache, ScanDepth, SharedMapping, SmashOrder, UnitConfig, UpdateOrder,
};

const PAGE: &str = include_str!("../../../docs/not-modelled.md");

/// Names of an enum's values; the match fails to compile when one is missing.
macro_rules! values {
    ($($type:ident { $($value:ident),* })*) => {{
        $(let _ = |value: $type| match value { $($type::$value => {})* };)*
        [$((stringify!($type), &[$(stringify!($value)),*][..])),*]
    }};
}

/// Names of a type's constants.
macro_rules! tables {
    ($($type:ident { $($table:ident),* })*) => {{
        $($(let _ = $type::$table;)*)*
        [$((stringify!($type), &[$(stringify!($table)),*][..])),*]
    }};
}

/// Rows of the page that name `type`, as one text.
fn rows_with(name: &str) -> String {
    let quoted = [format!("`{name}`"), format!("`{name}::")];
    PAGE.lines().filter(|row| quoted.iter().any(|quoted| row.contains(quoted))).collect()
}

#[test]
fn every_switch_and_value_is_named() {
    let values = values! {
        BaseWrite { Clears, KeepsByIndex, Gp }
        EnableToggle { Clears, Keeps, KeepsAndMissesRmpupdate }
        OutsideWindow { CarryClear, Gp }
        NeighbourRace { Spin, FailOverlap }
        FreeWithOwner { FailInput, FailPermission }
        NotLarge { FailBadaddr, FailOverlap }
        PvalidateVmpl { FailPermission, Gp }
        SharedMapping { FailInput, Ignored }
        QueryOwn { Refused, Answered }
        ScanDepth { Heads, Entries }
        RmpAddress { InvalidParam, InvalidAddress }
    };
    let tables = tables! {
        UpdateOrder { SUGGESTED, IMMUTABLE_FIRST, OVERLAP_FIRST }
        SmashOrder { SUGGESTED, IMMUTABLE_FIRST, LARGE_FIRST }
        GuestOrder { PVALIDATE, PVALIDATE_SIZE_FIRST, RMPADJUST, RMPADJUST_RIGHTS_FIRST, RMPQUERY }
        LaunchOrder { SIZE_FIRST, GUEST_FIRST }
        ScanCache {}
    };
    let missing: Vec<String> = values
        .iter()
        .chain(&tables)
        .flat_map(|(name, values)| {
            let rows = rows_with(name);
            let absent: Vec<String> = values
                .iter()
                .filter(|value| !rows.contains(&format!("`{value}`")))
                .map(|value| format!("{name}::{value}"))
                .collect();
            let nowhere = rows.is_empty().then(|| (*name).to_owned());
            absent.into_iter().chain(nowhere)
        })
        .collect();
    assert!(missing.is_empty(), "docs/not-modelled.md lacks {missing:?}");
}

/// Fields of the structs that hold switches. Those named by their type are in the test above.
#[test]
fn every_field_is_a_switch_that_is_named() {
    // `segmented` is a fact of the platform, `defect` a seeded defect: neither is a choice.
    let UnitConfig { segmented: _, base_write: _, en_toggle: _, outside_window: _, scan_cache } =
        UnitConfig::default();
    let ScanCache { enabled: _, negative: _ } = scan_cache;
    let Choices {
        neighbour_race: _,
        free_with_owner: _,
        psmash: _,
        not_large: _,
        pvalidate_vmpl: _,
        shared_mapping: _,
        query_own: _,
        pvalidate: _,
        rmpadjust: _,
        rmpquery: _,
        scan_depth: _,
        errata,
        defect: _,
    } = Choices::DEFAULT;
    let Errata { head_in_use_faults: _, in_use_writes_fault: _ } = errata;
    let FirmwareChoices { version: _, rmp_address: _, launch_update: _ } = FirmwareChoices::DEFAULT;
    for name in [
        "`ScanCache`: `enabled`, `negative`",
        "`Errata::head_in_use_faults`",
        "`Errata::in_use_writes_fault`",
        "`Choices::psmash`",
        "`Choices::pvalidate`, `rmpadjust`, `rmpquery`",
        "`FirmwareChoices::version`",
        "`FirmwareChoices::launch_update`",
    ] {
        assert!(PAGE.contains(name), "docs/not-modelled.md lacks {name}");
    }
}
