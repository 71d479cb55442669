//! The agent's figures for Prometheus, in its text format (version 0.0.4).

use std::fmt::Write;

use crate::status::Status;

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures. They are of this node: what Prometheus asks tells which.
pub fn text(status: &Status) -> String {
    let refused = status.nodes.values().filter(|node| !node.refused.is_empty()).count();
    let work = &status.work;
    let figures: [(&str, &str, &str, u64); 10] = [
        ("ready", "gauge", "1: pods on this node have a network.", status.ready.into()),
        (
            "cluster_answers",
            "gauge",
            "1: the keeper of the cluster's state answers.",
            status.cluster_answers.into(),
        ),
        ("daemon_answers", "gauge", "1: weftd answers.", status.daemon_answers.into()),
        ("nodes", "gauge", "Other nodes that are known.", status.nodes.len() as u64),
        (
            "nodes_refused",
            "gauge",
            "Other nodes whose pods are not reached: see weft status.",
            refused as u64,
        ),
        ("pod_mtu_octets", "gauge", "Largest IP packet of a pod.", status.mtu.into()),
        ("events_total", "counter", "Changes of the cluster that were heard.", work.events),
        ("rounds_total", "counter", "How often the wish was worked out.", work.rounds),
        ("daemon_calls_total", "counter", "Calls of weftd's API.", work.calls),
        ("daemon_objects_total", "counter", "Objects that were sent to weftd.", work.objects),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in figures {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP weft_agent_{name} {help}\n# TYPE weft_agent_{name} {kind}\nweft_agent_{name} {value}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    #[test]
    fn each_figure_has_a_help_a_type_and_a_value() {
        let text = text(&Status::new("one", Mode::Wireguard));
        assert_eq!(text.lines().count(), 30);
        assert!(text.contains("\n# TYPE weft_agent_nodes gauge\nweft_agent_nodes 0\n"), "{text}");
        for figure in text.lines().collect::<Vec<_>>().chunks(3) {
            let name = figure[2].split(' ').next().unwrap();
            assert!(
                figure[0].starts_with(&format!("# HELP {name} "))
                    && figure[1].starts_with(&format!("# TYPE {name} "))
            );
            assert_eq!(name.ends_with("_total"), figure[1].ends_with("counter"), "{name}");
        }
    }
}
