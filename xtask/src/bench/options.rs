//! What the bench was asked to do.

/// What to measure, and how much of it.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) quick: bool,
    /// How many policies the issuance is permitted by.
    pub(super) policies: usize,
    /// None named means all.
    rows: Vec<Row>,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Issuance,
    Introspection,
    Decision,
    Memory,
    Start,
    Policy,
    Backup,
    Record,
    Ends,
    Sweep,
    Delegation,
    Hot,
}

impl Row {
    const WORDS: [(&'static str, Self); 12] = [
        ("issuance", Self::Issuance),
        ("introspection", Self::Introspection),
        ("decision", Self::Decision),
        ("memory", Self::Memory),
        ("start", Self::Start),
        ("policy", Self::Policy),
        ("backup", Self::Backup),
        ("record", Self::Record),
        ("ends", Self::Ends),
        ("sweep", Self::Sweep),
        ("delegation", Self::Delegation),
        ("hot", Self::Hot),
    ];
}

impl Options {
    /// Reads the command line; none when it asks for help.
    pub(super) fn parse(args: &[String]) -> Result<Option<Self>, String> {
        let mut options = Self {
            quick: false,
            policies: 1,
            rows: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => options.quick = true,
                "--policies" => {
                    let word = args.next().ok_or("`--policies` wants a number")?;
                    let many = word.parse().ok().filter(|many| (1..=10_000).contains(many));
                    options.policies = many.ok_or_else(|| {
                        format!("`--policies` wants 1 to 10000, and not `{word}`")
                    })?;
                }
                "--row" => {
                    let word = args.next().ok_or("`--row` wants the name of a row")?;
                    let found = Row::WORDS.iter().find(|(known, _)| known == word);
                    let (_, row) = found.ok_or_else(|| format!("there is no row `{word}`"))?;
                    options.rows.push(*row);
                }
                other => return Err(format!("unknown argument `{other}`")),
            }
        }
        Ok(Some(options))
    }

    /// Whether a row is to be measured.
    pub(super) fn wants(&self, row: Row) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    /// How many grants to measure with 64 and with 256 connections.
    pub(super) const fn grants(&self) -> [(usize, usize); 2] {
        if self.quick {
            [(64, 12_000), (256, 8_000)]
        } else {
            [(64, 60_000), (256, 40_000)]
        }
    }

    /// How many grants to measure with 64 connections while backups run.
    pub(super) const fn grants_beside_backups(&self) -> usize {
        if self.quick { 8_000 } else { 40_000 }
    }

    /// How many entries to ask for answers about.
    pub(super) const fn history(&self) -> u64 {
        if self.quick { 100_000 } else { 10_000_000 }
    }

    /// How many open tasks an offboarding or a deadline ends.
    pub(super) const fn ended_at_once(&self) -> u64 {
        if self.quick { 10_000 } else { 100_000 }
    }

    /// How many seconds recording as many may take, on a machine with busy neighbours.
    pub(super) const fn filling_seconds(&self) -> u64 {
        if self.quick { 15 } else { 90 }
    }

    /// How many tasks hand over.
    pub(super) const fn parents(&self) -> u64 {
        if self.quick { 200 } else { 2_000 }
    }

    /// How many tasks come and go: a hundred times as many as are first looked at. Each leaves some
    /// 5 KB of history on the disk.
    pub(super) const fn passed(&self) -> u64 {
        if self.quick { 50_000 } else { 10_000_000 }
    }

    /// How many open tasks to start with.
    pub(super) const fn open_tasks(&self) -> u64 {
        if self.quick { 100_000 } else { 1_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Option<Options>, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Options::parse(&words)
    }

    #[test]
    fn without_a_row_all_are_wanted() {
        let options = parse(&["--quick"]).unwrap().unwrap();
        assert!(options.quick);
        assert_eq!(options.policies, 1);
        assert!(Row::WORDS.iter().all(|(_, row)| options.wants(*row)));
    }

    #[test]
    fn only_named_rows_are_wanted() {
        let options = parse(&["--row", "start"]).unwrap().unwrap();
        assert!(options.wants(Row::Start) && !options.wants(Row::Memory) && !options.quick);
        let options = parse(&["--row", "start", "--row", "memory"])
            .unwrap()
            .unwrap();
        assert!(options.wants(Row::Start) && options.wants(Row::Memory));
        assert!(!options.wants(Row::Issuance));
    }

    #[test]
    fn wrong_words_are_refused() {
        assert!(parse(&["--row"]).is_err());
        assert!(parse(&["--row", "offboarding"]).is_err());
        assert!(parse(&["fast"]).is_err());
        assert!(parse(&["--policies", "0"]).is_err());
        let options = parse(&["--policies", "1000"]).unwrap().unwrap();
        assert_eq!(options.policies, 1_000);
        assert!(parse(&["--help"]).unwrap().is_none());
    }
}
