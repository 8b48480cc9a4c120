//! Upstream's table text, read strictly.

use std::collections::BTreeSet;

/// The CPUs of each region, by region.
pub(crate) type Table = Vec<BTreeSet<u32>>;

/// Reads a whole table of so many regions, each in its row.
pub(crate) fn parse(text: &str, regions: usize) -> Result<Table, String> {
    let mut table = Table::new();
    for line in text.lines() {
        let row = row(line, table.len()).ok_or_else(|| {
            format!("row {} is {line:?}, expected \"Memory @NGB: CPU(s): LIST\"", table.len())
        })?;
        table.push(row);
    }
    if table.len() != regions {
        return Err(format!("the table has {} rows, expected {regions}", table.len()));
    }
    Ok(table)
}

fn row(line: &str, number: usize) -> Option<BTreeSet<u32>> {
    let list = line.strip_prefix(&format!("Memory @{number:3}GB: CPU(s): "))?;
    if list == "none" { Some(BTreeSet::new()) } else { cpus(list) }
}

/// CPUs in a list such as `0-3,7`; each range ascending, and after the one before it.
pub(crate) fn cpus(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let follows = cpus.last().is_none_or(|&before| before < first);
        if first > last || !follows {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The first rows in which two tables differ, for people.
pub(crate) fn difference(found: &Table, expected: &Table) -> Option<String> {
    let pairs = found.iter().zip(expected).enumerate();
    let mut rows = pairs.filter(|(_, (found, expected))| found != expected);
    let (region, (found, expected)) = rows.next()?;
    let more = rows.count();
    Some(format!("region {region} is on CPUs {found:?}, expected {expected:?} ({more} more rows)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_upstream_writes_them() {
        let text = "Memory @  0GB: CPU(s): none\nMemory @  1GB: CPU(s): 0-2,5\n";
        let table = parse(text, 2).unwrap();
        assert_eq!(table, [BTreeSet::new(), BTreeSet::from([0, 1, 2, 5])]);
        assert!(parse(text, 3).unwrap_err().contains("2 rows"));
        assert!(parse("Memory @ 1GB: CPU(s): none\n", 1).is_err());
        assert!(parse("Memory @  0GB: CPU(s): \n", 1).is_err());
    }

    #[test]
    fn lists_are_strict() {
        assert_eq!(cpus("7").unwrap(), BTreeSet::from([7]));
        for wrong in ["", "1-", "3-1", "2,1", "1-3,3", "none"] {
            assert_eq!(cpus(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn differences_name_the_region() {
        let (none, all) = (BTreeSet::new(), BTreeSet::from([0, 1]));
        let told = difference(&vec![none.clone(), all.clone()], &vec![none.clone(), none.clone()]);
        assert!(told.unwrap().starts_with("region 1 is on CPUs {0, 1}, expected {}"));
        assert_eq!(difference(&vec![all.clone()], &vec![all]), None);
    }
}
