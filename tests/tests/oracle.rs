//! The differential oracle: the same frames go through the stack and through the Linux kernel, and what comes
//! out must agree, field by field, or the difference stands in `oracle/differences.rs` with its reason.
//!
//! `WEFT_ORACLE_CASES` sets how many cases are generated (5,000), `WEFT_ORACLE_SEED` from which seed, and
//! `WEFT_ORACLE_CASE` runs one of them alone and shows both outcomes. `WEFT_ORACLE_ENTRY` shows the cases that need
//! one entry of the list; `WEFT_ORACLE_SHOW` sets how many failing ones are shown (12).

mod oracle {
    pub mod captured;
    pub mod case;
    pub mod compare;
    pub mod differences;
    pub mod dissect;
    pub mod fabric;
    pub mod generate;
    pub mod linux;
    pub mod packet;
    pub mod random;
    pub mod run;
    pub mod subject;
    pub mod topology;
}

use oracle::run;

#[test]
fn the_stack_does_what_linux_does_but_for_the_listed_differences() {
    run::all().unwrap_or_else(|error| panic!("{error:#}"));
}
