//! What is to be done with a table that is as wished, that differs, or that is none.

use super::*;
use crate::fixture::{BASE, fabric, port};

fn wish(mappings: &str) -> Wish {
    let spec = format!("  addresses: [198.18.1.10/24]\n  portMappings: [{mappings}]");
    Wish::of(&fabric(&format!("{BASE}{}", port("web", &spec))))
}

const ONE: &str = "{protocol: udp, hostPort: 53, containerPort: 53}";
const TWO: &str = "{protocol: udp, hostPort: 53, containerPort: 5353}, {hostPort: 80, containerPort: 80}";

#[test]
fn a_table_as_wished_is_left_alone() {
    let wish = wish(ONE);
    let table = wished(&wish).unwrap();
    assert_eq!(plan(Some(&table), &wish), Change::Nothing);
    assert_eq!(plan(None, &wish), Change::Build);
    assert_eq!(plan(Some(&table), &Wish::default()), Change::Remove);
    assert_eq!(plan(None, &Wish::default()), Change::Nothing);
}

#[test]
fn only_elements_that_differ_are_changed() {
    let (before, after) = (wish(ONE), wish(TWO));
    let Change::Elements(sets) = plan(wished(&before).as_ref(), &after) else { panic!("elements differ") };
    let (set, (gone, new)) = sets.first_key_value().unwrap();
    assert_eq!((sets.len(), *set, gone.len(), new.len()), (1, MAPPINGS[0], 1, 2));
    assert!(!batch("weft-test", &plan(wished(&before).as_ref(), &after), &after).is_empty());
}

#[test]
fn a_table_with_other_rules_is_made_anew() {
    let wish = wish(ONE);
    let whole = wished(&wish).unwrap();
    let changed = |change: fn(&mut Table)| {
        let mut table = whole.clone();
        change(&mut table);
        plan(Some(&table), &wish)
    };
    assert_eq!(changed(|table| table.awake = false), Change::Build);
    assert_eq!(changed(|table| drop(table.chains.remove("guard"))), Change::Build);
    assert_eq!(changed(|table| drop(table.chains.insert("more".into(), Vec::new()))), Change::Build);
    assert_eq!(changed(|table| drop(table.chains.get_mut("guard").unwrap().pop())), Change::Build);
    assert_eq!(changed(|table| table.chains.get_mut("guard").unwrap().swap(0, 1)), Change::Build);
    assert_eq!(changed(|table| drop(table.sets.remove("hairpins"))), Change::Build);
    assert_eq!(changed(|table| drop(table.sets.insert("more".into(), BTreeSet::new()))), Change::Build);
}

#[test]
fn rules_are_told_apart_by_their_comments() {
    for chain in chains() {
        let comments: BTreeSet<_> = chain.rules.iter().map(|rule| &rule.comment).collect();
        assert!(comments.iter().all(|comment| comment.len() <= 120));
        assert_eq!(comments.len(), chain.rules.len(), "{}", chain.name);
    }
}

#[test]
fn flows_are_forgotten_where_a_port_leads_elsewhere() {
    let (before, after) = (wished(&wish(ONE)), wish(TWO));
    let change = plan(before.as_ref(), &after);
    let moved = moved(before.as_ref(), &change, &after);
    assert_eq!(super::moved(before.as_ref(), &Change::Build, &after), moved);
    assert_eq!(changed(before.clone(), &change, &after), wished(&after));
    let targets =
        |leads: &BTreeSet<Lead>| leads.iter().map(|lead| lead.target.to_string()).collect::<Vec<_>>();
    assert_eq!(targets(&moved.from), ["198.18.1.10:53"]);
    assert_eq!(targets(&moved.to), ["198.18.1.10:80", "198.18.1.10:5353"]);
    let gone = super::moved(before.as_ref(), &Change::Remove, &Wish::default());
    assert_eq!((gone.from.len(), gone.to.len()), (1, 0));
}
