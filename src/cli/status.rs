//! The state of the service in one line, as `systemctl status` shows it.

use super::time::Time;
use crate::{Tollgate, gateway::Reloaded};

/// Where it serves or why it does so with an old configuration, how much it has to do, and whether its
/// metrics arrive.
pub(super) fn line(gateway: &Tollgate) -> String {
    let mut line = match gateway.last_reload() {
        Some(Reloaded::Rejected { why }) => {
            let why = why.lines().next().unwrap_or_default();
            format!("the old configuration stays in force: {why}")
        }
        Some(Reloaded::Applied { .. } | Reloaded::Unchanged) | None => {
            let places: Vec<String> = gateway.places.iter().map(ToString::to_string).collect();
            format!("serving on {}", places.join(" and "))
        }
    };
    match gateway.requests_under_way() {
        1 => line.push_str("; 1 request under way"),
        requests => line.push_str(&format!("; {requests} requests under way")),
    }
    for receiver in gateway.exports.receivers() {
        let name = &receiver.name;
        match (receiver.failing_since(), receiver.taken_at()) {
            (Some(since), _) => line.push_str(&format!("; {name} has taken no metrics since {}", Time(since))),
            (None, Some(_)) => line.push_str(&format!("; {name} takes metrics")),
            (None, None) => {}
        }
    }
    line
}
