//! Source `k8s_watch` with a real API server: churn, restarts, compaction, refusals.

use crate::support::kube::{Kube, Who};
use crate::support::planted::Planted;
use crate::support::wait_for;
use crate::support::watch::{Watch, assert_no_repeats, churn, grant, key, seen};
use serde_json::json;

#[test]
fn every_change_is_stored_once_over_restarts() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let mut watch = Watch::new(&grant(&kube), &json!({}));
    watch.start();
    wait_for("every watch", || watch.is_complete());
    churn(&kube, "live", 20);
    wait_for("the changes", || seen(&[&watch], "live") == [20; 3]);
    watch.stop();

    // What happens meanwhile is seen in full, and what was there is not told again.
    churn(&kube, "missed", 20);
    kube.admin(&["create", "role", "stays", "--verb=get", "--resource=pods"]);
    let before = watch.changes("");
    watch.start();
    wait_for("what happened meanwhile", || seen(&[&watch], "missed") == [20; 3]);
    // Killed under load.
    std::thread::scope(|scope| {
        let load = scope.spawn(|| (0..4).for_each(|n| churn(&kube, &format!("killed{n}"), 20)));
        for n in 0..4 {
            let start = seen(&[&watch], "killed")[0];
            wait_for("something to be killed under", || load.is_finished() || seen(&[&watch], "killed")[0] > start || n == 0);
            watch.kill();
            watch.start();
        }
        load.join().unwrap();
    });
    for n in 0..4 {
        wait_for("the changes around the kills", || seen(&[&watch], &format!("killed{n}")) == [20; 3]);
    }
    kube.admin(&["delete", "role", "stays"]);
    wait_for("the deletion", || watch.app.search("name = \"stays\" and action = \"deleted\"").len() == 1);
    assert_no_repeats(&[&watch]);
    let after = watch.changes("resource = \"clusterroles\"");
    assert_eq!(after, before.into_iter().filter(|(key, _)| after.contains_key(key)).collect(), "nothing of old is new");

    let role = &watch.app.search("name = \"stays\" and action = \"added\"")[0];
    assert_eq!((&role["type"], &role["verbs"], &role["namespace"]), (&json!("Role"), &json!(["get"]), &json!("default")));
    assert!(role["raw"]["metadata"].get("managedFields").is_none(), "{role}");
    assert!(role.get("user").is_none() && role["origin"]["uri"].as_str().unwrap().ends_with("/apis/rbac.authorization.k8s.io/v1/roles"));
    watch.stop();
}

#[test]
fn events_are_kept_with_each_count_and_secrets_of_pods_are_not() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let mut watch = Watch::new(&grant(&kube), &json!({"resources": ["events", "pods"]}));
    watch.start();
    let event = |count: usize| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "backoff", "namespace": "default"}, "type": "Warning", "reason": "BackOff",
            "message": "again", "count": count, "firstTimestamp": "2026-11-24T10:00:00Z", "lastTimestamp": format!("2026-11-24T10:0{count}:00Z"),
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "app"}, "source": {"component": "kubelet", "host": "node-1"},
        })
        .to_string()
    };
    kube.create(&event(1));
    for count in 2..=4 {
        kube.admin_with(&["replace", "-f", "-"], &event(count));
    }
    let counts = || {
        let mut counts: Vec<_> = watch.app.search("action = \"BackOff\"").iter().map(|it| it["raw"]["count"].as_u64().unwrap()).collect();
        counts.sort_unstable();
        counts
    };
    wait_for("each count of the event", || counts() == [1, 2, 3, 4]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "PASSWORD", "value": "pl4nted-s3cret"}]}]},
    });
    // `apply` keeps the whole pod once more, in an annotation.
    kube.admin_with(&["apply", "-f", "-"], &pod.to_string());
    wait_for("the pod", || watch.app.search("resource = \"pods\" and name = \"app\" and action = \"added\"").len() == 1);
    // Core Events end by themselves: that is no news.
    kube.admin(&["delete", "event", "backoff"]);
    kube.admin(&["delete", "pod", "app", "--force", "--grace-period=0"]);
    wait_for("the pod's end", || watch.app.search("resource = \"pods\" and action = \"deleted\"").len() == 1);
    assert_eq!(counts(), [1, 2, 3, 4]);
    assert_no_repeats(&[&watch]);
    watch.stop();
    let planted = Planted(vec!["pl4nted-s3cret".to_owned()]);
    planted.assert_absent("the log", watch.log().as_bytes());
    planted.assert_absent_everywhere(&watch.app, &watch.app.path("planewatch.yaml"));
}

/// Without its cache the API server asks etcd, which knows nothing older than its last compaction.
#[test]
fn after_a_compaction_only_what_was_missed_is_told() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.flag("--watch-cache=false").start();
    let mut watch = Watch::new(&grant(&kube), &json!({}));
    kube.admin(&["create", "role", "goes", "--verb=get", "--resource=pods"]);
    kube.admin(&["create", "role", "changes", "--verb=get", "--resource=pods"]);
    watch.start();
    wait_for("the roles", || watch.app.search("name in (\"goes\", \"changes\")").len() == 2);
    wait_for("every watch", || watch.is_complete());
    watch.stop();
    let before = watch.changes("event_type = \"kubernetesConfig\"").len();
    kube.admin(&["delete", "role", "goes"]);
    kube.admin(&["label", "role", "changes", "a=b"]);
    kube.admin(&["create", "role", "comes", "--verb=get", "--resource=pods"]);
    kube.compact();
    watch.start();
    let told = |name: &str, action: &str| watch.app.search(&format!("name = \"{name}\" and action = \"{action}\"")).len();
    wait_for("what was missed", || [told("goes", "deleted"), told("changes", "modified"), told("comes", "added")] == [1; 3]);
    assert!(watch.metric("planewatch_watch_failures_total{source=\"watch\",reason=\"gone\"}") >= 1.0);
    assert_eq!(watch.changes("event_type = \"kubernetesConfig\"").len(), before + 3, "nothing else");
    wait_for("what is not known", || !watch.app.search("action = \"WatchGap\" and raw like \"roles: \"").is_empty());
    // It lives on, over another compaction under it.
    churn(&kube, "between", 1);
    kube.compact();
    churn(&kube, "after", 10);
    wait_for("the changes after it", || seen(&[&watch], "after") == [10; 3]);
    assert_no_repeats(&[&watch]);
    watch.stop();
}

#[test]
fn a_dead_watch_is_seen_everywhere_and_lives_again() {
    let Some(kube) = Kube::prepare() else { return };
    let mut kube = kube.start();
    let mut watch = Watch::new(&grant(&kube), &json!({"alert_after_secs": 1}));
    watch.app = std::mem::replace(&mut watch.app, crate::support::TestApp::new()).with("rules", json!({"builtin": true}));
    watch.start();
    wait_for("every watch", || watch.ready().0 == 200 && watch.is_complete());
    churn(&kube, "before", 10);
    wait_for("the changes", || seen(&[&watch], "before") == [10; 3]);
    kube.stop_server();
    wait_for("a reason in /readyz", || watch.ready().0 == 503 && watch.ready().1.contains("watch/roles: "));
    assert!(watch.metric("planewatch_source_up{source=\"watch\"}") < 0.5);
    wait_for("an event", || !watch.app.search("event_type = \"kubernetesEvent\" and action = \"WatchDown\"").is_empty());
    kube.restart();
    wait_for("readiness", || watch.ready().0 == 200);
    churn(&kube, "after", 10);
    wait_for("the changes after it", || seen(&[&watch], "after") == [10; 3]);
    wait_for("an event", || !watch.app.search("event_type = \"kubernetesEvent\" and action = \"WatchUp\"").is_empty());
    assert_eq!(seen(&[&watch], "before"), [10; 3]);
    assert_no_repeats(&[&watch]);
    watch.stop();
    let alerts = watch.app.alerts();
    assert!(alerts.iter().any(|it| it["ruleId"] == "k8s-watch-down"), "{alerts:?}");
}

#[test]
fn what_may_not_be_watched_is_said_and_the_rest_goes_on() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    kube.admin(&["create", "clusterrole", "reads-namespaces", "--verb=list,watch", "--resource=namespaces"]);
    kube.admin(&["create", "clusterrolebinding", "dev", "--clusterrole=reads-namespaces", "--user=dev"]);
    let mut watch = Watch::new(&kube.kubeconfig(Who::Dev), &json!({"resources": ["namespaces", "clusterroles"]}));
    watch.start();
    wait_for("the namespaces", || watch.app.search("resource = \"namespaces\" and name = \"kube-system\"").len() == 1);
    wait_for("the reason", || watch.ready().1.contains("watch-rbac.yaml"));
    assert!(watch.ready().1.contains("watch/clusterroles: ") && !watch.ready().1.contains("watch/namespaces"));
    kube.admin(&["create", "clusterrolebinding", "dev-admin", "--clusterrole=cluster-admin", "--user=dev"]);
    wait_for("the roles, once they may be watched", || {
        !watch.app.search("resource = \"clusterroles\"").is_empty() && watch.ready().0 == 200
    });
    watch.stop();
}

#[test]
fn draining_brings_what_there_is_and_then_what_is_new() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let watch = Watch::new(&grant(&kube), &json!({}));
    let first = watch.app.drain()["stored"].as_u64().unwrap();
    assert!(first > 50, "{first}");
    let sum = watch.app.drain();
    assert_eq!((&sum["stored"], &sum["duplicate"]), (&json!(0), &json!(0)), "{sum}");
    kube.admin(&["create", "role", "new", "--verb=get", "--resource=pods"]);
    assert_eq!(watch.app.drain()["stored"], 1);
    kube.admin(&["delete", "role", "new"]);
    assert_eq!(watch.app.drain()["stored"], 1);
    let of_role: Vec<_> = watch.app.search("name = \"new\"");
    let actions: Vec<_> = of_role.iter().map(|it| key(it).2).collect();
    assert_eq!(actions, ["deleted", "added"]);
    assert!(of_role[0]["flags"].to_string().contains("no_event_time"), "nobody saw it go: {}", of_role[0]);
}
