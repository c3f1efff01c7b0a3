//! Settings of the source, and what is wrong with them.

use super::kinds::{self, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How long a lease may last, seconds: shorter ones move at every hiccup, longer ones leave a gap when a replica dies.
const LEASE_DURATION_SECS: std::ops::RangeInclusive<u64> = 3..=600;
/// How long a watch may be dead before that is an event, seconds.
const ALERT_AFTER_SECS: std::ops::RangeInclusive<u64> = 1..=86_400;

/// Settings of a `k8s_watch` source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct K8sWatchConfig {
    /// The source's name: unique, in metrics and events.
    pub name: String,
    /// The Kubernetes cluster, named in every event of it.
    pub cluster: String,
    /// How to reach the API server. By default as a pod does, with its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context. By default its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What to watch, as `kubectl api-resources` names it. By default all that the source knows.
    #[serde(default = "kinds::names")]
    pub resources: Vec<String>,
    /// Of several replicas with this Lease, one watches. Without it there is one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseConfig>,
    /// How long a watch may be dead before an event of type `kubernetesEvent` with the action `WatchDown` says so,
    /// seconds. `/readyz` and the metrics say so at once.
    #[serde(default = "alert_after_secs")]
    pub alert_after_secs: u64,
    /// Filters; records that match one are not stored, and counted as filtered.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// The Lease (coordination.k8s.io/v1) of the leader election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    #[serde(default = "lease_name")]
    pub name: String,
    /// Who this replica is; each has its own. By default the host's name, which in a pod is the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How long the others wait for a leader that does not renew, seconds. It renews three times as often.
    #[serde(default = "duration_secs")]
    pub duration_secs: u64,
}

fn lease_name() -> String {
    "planewatch".to_owned()
}

fn duration_secs() -> u64 {
    15
}

fn alert_after_secs() -> u64 {
    60
}

impl K8sWatchConfig {
    /// What is wrong with the settings, for a person.
    pub fn check(&self) -> Result<(), String> {
        if self.cluster.is_empty() {
            return Err("`cluster:` is empty; name the cluster, it is in every event".to_owned());
        }
        if self.resources.is_empty() {
            return Err("`resources:` is empty, so nothing would be watched; leave it out to watch all".to_owned());
        }
        for (n, name) in self.resources.iter().enumerate() {
            if Kind::named(name).is_none() {
                return Err(format!("resources: `{name}` is none of those that can be watched: {}", kinds::names().join(", ")));
            }
            if self.resources[..n].contains(name) {
                return Err(format!("resources: `{name}` stands there twice"));
            }
        }
        within("alert_after_secs", self.alert_after_secs, &ALERT_AFTER_SECS)?;
        let Some(lease) = &self.lease else { return Ok(()) };
        if lease.namespace.is_empty() || lease.name.is_empty() || lease.identity.as_deref() == Some("") {
            return Err("lease: namespace, name and identity may not be empty".to_owned());
        }
        within("lease.duration_secs", lease.duration_secs, &LEASE_DURATION_SECS)
    }

    /// What to watch.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static Kind> {
        self.resources.iter().filter_map(|it| Kind::named(it))
    }
}

fn within(name: &str, value: u64, range: &std::ops::RangeInclusive<u64>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}, must be {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl Fn(&mut K8sWatchConfig)) -> String {
        let mut config: K8sWatchConfig =
            serde_json::from_str(r#"{"name": "a", "cluster": "c", "lease": {"namespace": "planewatch"}}"#).unwrap();
        config.check().unwrap();
        change(&mut config);
        config.check().err().unwrap_or_default()
    }

    #[test]
    fn mistakes_are_told() {
        assert!(wrong(|it| it.cluster.clear()).contains("cluster"));
        assert!(wrong(|it| it.resources.clear()).contains("empty"));
        assert!(wrong(|it| it.resources = vec!["secrets".to_owned()]).contains("`secrets` is none of those"));
        assert!(wrong(|it| it.resources = vec!["pods".to_owned(); 2]).contains("twice"));
        assert!(wrong(|it| it.lease.as_mut().unwrap().namespace.clear()).contains("namespace"));
        for (secs, is_right) in [(2, false), (3, true), (600, true), (601, false)] {
            assert_eq!(wrong(|it| it.lease.as_mut().unwrap().duration_secs = secs).is_empty(), is_right, "{secs}");
        }
        for (secs, is_right) in [(0, false), (1, true), (86_400, true), (86_401, false)] {
            assert_eq!(wrong(|it| it.alert_after_secs = secs).is_empty(), is_right, "{secs}");
        }
    }
}
