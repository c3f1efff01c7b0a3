//! Two replicas of a `k8s_watch` source and one Lease: one watches at a time, and nothing is missed or told twice.

use crate::support::kube::Kube;
use crate::support::wait_for;
use crate::support::watch::{Watch, assert_no_repeats, churn, grant, seen};
use serde_json::{Value, json};

/// Roles of one churn.
const ROLES: usize = 15;

fn replicas(kube: &Kube) -> [Watch; 2] {
    let kubeconfig = grant(kube);
    ["one", "two"].map(|name| {
        let lease = json!({"namespace": "planewatch", "identity": name, "duration_secs": 6});
        Watch::new(&kubeconfig, &json!({"lease": lease, "resources": ["roles", "rolebindings", "namespaces"]}))
    })
}

fn lease(kube: &Kube) -> Value {
    serde_json::from_str(&kube.admin(&["get", "lease", "planewatch", "--namespace", "planewatch", "-o", "json"])).unwrap()
}

/// The leader's last word covers everything that is stored.
fn wait_for_word(kube: &Kube, watches: &[&Watch]) {
    for resource in ["roles", "namespaces"] {
        let stored = watches.iter().flat_map(|it| it.changes(&format!("resource = \"{resource}\"")).into_keys());
        let newest = stored.map(|(_, version, _)| version.parse::<u64>().unwrap()).max().unwrap();
        wait_for("the leader's word", || {
            let lease = lease(kube);
            let word = lease["metadata"]["annotations"]["planewatch/positions"].as_str().unwrap_or("{}").to_owned();
            let word: Value = serde_json::from_str(&word).unwrap();
            word[resource].as_str().is_some_and(|it| it.parse::<u64>().unwrap() >= newest)
        });
    }
}

#[test]
fn the_lease_moves_and_every_change_is_stored_once_in_one_of_the_stores() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let [mut one, mut two] = replicas(&kube);
    one.start();
    wait_for("the first leader", || one.is_leader() && one.app.search("name = \"kube-system\"").len() == 1);
    two.start();
    churn(&kube, "first", ROLES);
    wait_for("the changes", || seen(&[&one, &two], "first") == [ROLES; 3]);
    assert!(!two.is_leader() && two.ready().0 == 200, "a replica that waits is ready: {:?}", two.ready());

    // Given up under load: the other goes on from where it was.
    std::thread::scope(|scope| {
        let load = scope.spawn(|| churn(&kube, "moved", ROLES));
        wait_for("some of the changes", || seen(&[&one], "moved")[0] > 0);
        one.stop();
        load.join().unwrap();
    });
    wait_for("the second leader", || two.is_leader());
    wait_for("the changes in both", || seen(&[&one, &two], "moved") == [ROLES; 3]);
    assert_no_repeats(&[&one, &two]);

    // Killed: the Lease runs out, and what happened meanwhile is not lost.
    one.start();
    wait_for_word(&kube, &[&one, &two]);
    two.kill();
    churn(&kube, "gap", ROLES);
    wait_for("the first leader again", || one.is_leader());
    wait_for("what happened without a leader", || seen(&[&one, &two], "gap") == [ROLES; 3]);
    two.start();
    churn(&kube, "last", ROLES);
    wait_for("the changes", || seen(&[&one, &two], "last") == [ROLES; 3]);
    assert_no_repeats(&[&one, &two]);
    assert_eq!(two.app.search("name starts_with \"last-\""), Vec::<Value>::new(), "one replica watches");
    assert!(lease(&kube)["spec"]["leaseTransitions"].as_u64().unwrap() >= 2);
    one.stop();
    two.stop();
}

#[test]
fn a_new_leader_whose_predecessor_is_forgotten_by_etcd_tells_only_what_is_new() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.flag("--watch-cache=false").start();
    let [mut one, mut two] = replicas(&kube);
    one.start();
    kube.admin(&["create", "role", "old", "--verb=get", "--resource=pods"]);
    wait_for("the role", || one.app.search("name = \"old\"").len() == 1);
    wait_for_word(&kube, &[&one]);
    one.kill();
    kube.admin(&["label", "role", "old", "a=b"]);
    kube.admin(&["create", "role", "new", "--verb=get", "--resource=pods"]);
    kube.compact();
    two.start();
    wait_for("what is new", || two.app.search("name = \"new\" and action = \"added\"").len() == 1);
    // Whether it was there before the last word, the second does not say.
    wait_for("what changed", || two.app.search("name = \"old\" and action in (\"added\", \"modified\")").len() == 1);
    assert_eq!(two.app.search("resource in (\"roles\", \"namespaces\")").len(), 2, "{:?}", two.changes(""));
    wait_for("what is not known", || !two.app.search("action = \"WatchGap\" and raw like \"roles\"").is_empty());
    assert_no_repeats(&[&one, &two]);
    two.stop();
}
