//! What every benchmark can be asked.

use anyhow::{Result, ensure};
use clap::builder::RangedU64ValueParser;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One JSON line per case, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds that each run is measured for, where it has no end of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Runs of each case; the median is reported.
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) runs: usize,
    /// Only cases whose name begins so.
    #[arg(long, default_value = "")]
    only: String,
}

impl Options {
    /// The cases that are asked for: one at least.
    pub(crate) fn choose<Case: Copy>(&self, cases: &[Case], name: impl Fn(&Case) -> &'static str) -> Result<Vec<Case>> {
        let chosen: Vec<_> = cases.iter().copied().filter(|case| name(case).starts_with(&self.only)).collect();
        let mut names: Vec<_> = cases.iter().map(name).collect();
        names.dedup();
        ensure!(!chosen.is_empty(), "--only: no case begins with {:?}; there are {}", self.only, names.join(", "));
        Ok(chosen)
    }
}
