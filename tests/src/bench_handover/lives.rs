//! Where `auto` had its connections during a run: what makes its figure one half's or the other's.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Case, Contender};
use crate::{bench::Rig, binaries};

/// What `lb status` says of a service, or by what that rose; nothing of one whose connections all live in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lives {
    /// Connections that moved from `AF_XDP` to the kernel.
    pub moved: u64,
    /// Those that were to move and stayed.
    pub stayed: u64,
    /// Where new ones began in the end: `af_xdp` or `kernel`.
    pub begins_on: Option<String>,
}

impl Lives {
    /// Asks the running `lb`.
    pub(super) fn of(rig: &Rig, contender: Contender, case: Case) -> Result<Self> {
        if contender != Contender::Auto {
            return Ok(Self::default());
        }
        let mut lb = rig.lab().edge().command(binaries::lb()?);
        lb.args(["status", "--json", "--admin"]);
        let output = lb.arg(rig.directory().join("lb.sock")).output()?;
        let status: Value = serde_json::from_slice(&output.stdout).context("lb status")?;
        let name = contender.service(case);
        let services = status["services"].as_array().context("no services")?;
        let service = services.iter().find(|service| service["name"] == name);
        Ok(Self::read(service.context("no such service")?))
    }

    /// What a service's status says.
    fn read(service: &Value) -> Self {
        let handover = &service["handover"];
        let moved = handover["moved"].as_array().into_iter().flatten();
        Self {
            moved: moved.filter_map(|counter| counter["value"].as_u64()).sum(),
            stayed: handover["stayed"].as_u64().unwrap_or(0),
            begins_on: handover["begins_on"].as_str().map(str::to_owned),
        }
    }

    /// By what it rose since `before`.
    #[must_use]
    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            moved: self.moved.saturating_sub(before.moved),
            stayed: self.stayed.saturating_sub(before.stayed),
            begins_on: self.begins_on,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_and_subtracted() {
        let moved = |response, tunnel| {
            let moved = json!([{ "name": "response", "value": response }, { "name": "tunnel", "value": tunnel }]);
            Lives::read(
                &json!({ "handover": { "moved": moved, "stayed": 3, "begins_on": "kernel" } }),
            )
        };
        let found = moved(7, 4).since(&moved(5, 1));
        let expected = Lives {
            moved: 5,
            stayed: 0,
            begins_on: Some("kernel".to_owned()),
        };
        assert_eq!(found, expected);
        assert_eq!(Lives::read(&json!({})), Lives::default());
    }
}
