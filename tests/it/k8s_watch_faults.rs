//! Source `k8s_watch` with a scripted API server: faults that a real one, as it is tested elsewhere, cannot be made to have.

use crate::support::fake_kube::{Answer, Asked, FakeKube, failure, line, object, page};
use crate::support::wait_for;
use crate::support::watch::{Watch, assert_no_repeats};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROLES: &str = "roles";
/// How soon a process that is told to stop is to be gone, whatever the API server does.
const END_MAX: Duration = Duration::from_secs(8);

/// A running source for these resources of that server.
fn started(kube: &FakeKube, resources: &[&str], more: &Value) -> Watch {
    let mut more = more.clone();
    more["resources"] = resources.into();
    let mut watch = Watch::new(&kube.kubeconfig(), &more);
    watch.start();
    watch
}

/// Exactly once.
fn wait_for_stored(watch: &Watch, name: &str, action: &str) {
    let filter = format!("resource = \"{ROLES}\" and name = \"{name}\" and action = \"{action}\"");
    wait_for(&filter, || watch.app.search(&filter).len() == 1);
}

fn wait_until_ready(watch: &Watch) {
    wait_for("readiness", || watch.ready().0 == 200);
}

fn wait_for_reason(watch: &Watch, what: &str) {
    wait_for("a reason in /readyz", || watch.ready().0 == 503 && watch.ready().1.contains(what));
}

fn open(lines: &[String]) -> Answer {
    Answer::Open(lines.concat())
}

/// The n-th of these comes no sooner after the first.
fn assert_paused(asked: &[Asked], n: usize, least: Duration) {
    let took = asked[n].at - asked[0].at;
    assert!(took >= least, "{n} requests in {took:?}");
}

/// Waits until that many watches were begun; they are not to be more than twice as many.
fn wait_for_watches(kube: &FakeKube, n: usize) -> Vec<Asked> {
    wait_for("watches", || kube.watches(ROLES).len() >= n);
    let watches = kube.watches(ROLES);
    assert!(watches.len() <= 2 * n, "{} watches, where {n} were waited for", watches.len());
    watches
}

/// A proxy before the server, or a server that is overloaded, ends every watch as it begins.
#[test]
fn watches_that_end_at_once_are_failures_and_then_all_is_listed_anew() {
    let kube = FakeKube::start(|asked| match (asked.is_watch(), asked.phase) {
        (false, _) => page(5, "", &[object("a", 3)]),
        (true, 0) => Answer::Whole(200, String::new()),
        (true, _) => open(&[line("ADDED", object("b", 6))]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    wait_for_reason(&watch, "watch/roles: ");
    wait_for_watches(&kube, 3);
    wait_for("another list", || kube.lists(ROLES).len() == 2);
    let watches = kube.watches(ROLES);
    assert!((2..=12).contains(&watches.len()), "{} watches before another list", watches.len());
    assert_paused(&watches, watches.len() - 1, Duration::from_millis(500));
    kube.phase(1);
    wait_for_stored(&watch, "b", "added");
    wait_until_ready(&watch);
    assert_no_repeats(&[&watch]);
    watch.stop();
}

/// As API servers before 1.34 send them.
#[test]
fn bookmarks_whose_time_of_creation_is_null_move_the_position() {
    let bookmark = concat!(
        r#"{"type":"BOOKMARK","object":{"kind":"Role","apiVersion":"rbac.authorization.k8s.io/v1","#,
        r#""metadata":{"resourceVersion":"12746","creationTimestamp":null},"rules":null}}"#,
        "\n"
    );
    let kube = FakeKube::start(move |asked| match (asked.is_watch(), asked.phase) {
        (false, 0) => page(5, "", &[object("a", 3)]),
        (false, _) => page(12746, "", &[object("a", 3), object("b", 6)]),
        (true, 0) => open(&[line("ADDED", object("b", 6)), bookmark.to_owned()]),
        (true, _) => open(&[]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    // The position is committed with the change that came just before.
    wait_for_stored(&watch, "b", "added");
    assert_eq!(watch.app.quarantine(), Vec::<Value>::new());
    watch.stop();
    kube.phase(1);
    watch.start();
    wait_for("the watch after the restart", || kube.watches(ROLES).iter().any(|it| it.phase == 1));
    let again = kube.watches(ROLES).pop().unwrap();
    assert_eq!((again.parameter("resourceVersion"), kube.lists(ROLES).len()), (Some("12746"), 1));
    assert_eq!(watch.app.quarantine(), Vec::<Value>::new());
    watch.stop();
}

/// The first half of a page of roles, and all of the others.
fn stalled(asked: &Asked) -> Answer {
    match (asked.is_watch(), asked.is_of(ROLES)) {
        (true, _) => open(&[]),
        (false, true) if asked.phase == 0 => Answer::Open(r#"{"kind":"RoleList","metadata":{"resourceVersion":"5"},"ite"#.to_owned()),
        (false, _) => page(5, "", &[object("a", 3)]),
    }
}

/// Takes 30 s, which is how long a frame may be in coming.
#[test]
fn a_list_that_stalls_is_told_and_given_up_and_holds_nobody_up() {
    let kube = FakeKube::start(stalled);
    let others = ["namespaces", "pods", "serviceaccounts"];
    let mut watch = started(&kube, &[ROLES, others[0], others[1], others[2]], &json!({}));
    wait_for_reason(&watch, "watch/roles: ");
    let begun = kube.lists(ROLES)[0].at;
    for other in others {
        assert!(!watch.ready().1.contains(&format!("watch/{other}")), "{:?}", watch.ready());
        let asked = kube.lists(other).first().map(|it| it.at.saturating_duration_since(begun));
        assert!(asked.is_some_and(|it| it < Duration::from_secs(10)), "{other} is listed meanwhile: {asked:?}");
    }
    kube.phase(1);
    wait_for_stored(&watch, "a", "added");
    wait_until_ready(&watch);
    watch.stop();
}

#[test]
fn a_stalled_list_does_not_hold_up_the_end() {
    let kube = FakeKube::start(stalled);
    let mut watch = started(&kube, &[ROLES], &json!({}));
    wait_for("the list", || kube.lists(ROLES).len() == 1);
    let told = Instant::now();
    watch.stop();
    assert!(told.elapsed() < END_MAX, "{:?}", told.elapsed());
}

/// etcd was restored from a backup, or the cluster was made anew behind the same address, while the source runs or not.
/// `ahead` is what such a server answers to a watch from a version that it has not come to.
fn after_the_server_went_back(is_running: bool, ahead: Answer) {
    let is_told = AtomicBool::new(!is_running);
    let kube = FakeKube::start(move |asked| {
        let from = asked.parameter("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or(0);
        let is_probe = asked.parameter("limit") == Some("1");
        if asked.phase > 0 && asked.is_watch() && from > 50 {
            is_told.store(true, Ordering::SeqCst);
        }
        match (asked.is_watch(), asked.phase) {
            (false, 0) => page(900, "", &[object("a", 800), object("gone", 700)]),
            // Who only asks how far the server is would find out before it watches.
            (false, _) if is_probe && !is_told.load(Ordering::SeqCst) => page(900, "", &[]),
            (false, _) => page(50, "", &[object("a", 30), object("b", 40)]),
            (true, 0) => open(&[]),
            (true, _) if from > 50 => ahead.clone(),
            (true, _) => open(&[line("ADDED", object("c", 51))]),
        }
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    wait_for("the first watch", || kube.watches(ROLES).len() == 1);
    if is_running {
        kube.phase(1);
    } else {
        watch.stop();
        kube.phase(1);
        watch.start();
    }
    for (name, action) in [("a", "modified"), ("b", "added"), ("c", "added"), ("gone", "deleted")] {
        wait_for_stored(&watch, name, action);
    }
    wait_until_ready(&watch);
    let is_refused = kube.watches(ROLES).iter().any(|it| it.phase == 1 && it.parameter("resourceVersion") == Some("900"));
    assert!(is_refused || !is_running, "the answer under test was given");
    assert_no_repeats(&[&watch]);
    watch.stop();
}

const AHEAD: &str = "Timeout: Too large resource version: 900, current: 50";

/// A watch cache waits until it has come there.
#[test]
fn a_server_that_went_back_before_a_restart_and_is_silent_is_listed_anew() {
    after_the_server_went_back(false, open(&[]));
}

#[test]
fn a_server_that_went_back_and_says_so_in_an_event_is_listed_anew() {
    after_the_server_went_back(true, Answer::Whole(200, line("ERROR", failure(504, "Timeout", AHEAD))));
}

#[test]
fn a_server_that_went_back_and_says_so_in_a_status_is_listed_anew() {
    after_the_server_went_back(true, Answer::refusal(504, "Timeout", AHEAD));
}

#[test]
fn what_every_cluster_has_is_missed_and_what_old_ones_lack_is_not() {
    let old = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    let kube = FakeKube::start(move |asked| match (asked.is_watch(), asked.phase) {
        (_, 0) => Answer::refusal(404, "NotFound", "the server could not find the requested resource"),
        _ if old.iter().any(|it| asked.is_of(it)) => Answer::refusal(404, "NotFound", "the server could not find the requested resource"),
        (false, _) => page(5, "", &[object("a", 3)]),
        (true, _) => open(&[]),
    });
    let mut watch = started(&kube, &[ROLES, old[0], old[1]], &json!({}));
    wait_for_reason(&watch, "watch/roles: ");
    // The first answer of each is dealt with when it is asked for again.
    wait_for("all to be asked for twice", || old.iter().all(|it| kube.lists(it).len() >= 2));
    assert!(watch.ready().0 == 503 && !watch.ready().1.contains("validating"), "{:?}", watch.ready());
    kube.phase(1);
    wait_for_stored(&watch, "a", "added");
    wait_until_ready(&watch);
    watch.stop();
}

fn gone() -> Answer {
    Answer::refusal(410, "Expired", "too old resource version: 5 (9)")
}

#[test]
fn a_watch_that_is_refused_as_too_old_leaves_a_gap_that_is_told() {
    let kube = FakeKube::start(|asked| match (asked.is_watch(), asked.nth) {
        (false, 0) => page(5, "", &[object("a", 3)]),
        (false, _) => page(9, "", &[object("a", 3), object("b", 8)]),
        (true, 0) => gone(),
        (true, _) => open(&[line("ADDED", object("c", 10))]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    for name in ["a", "b", "c"] {
        wait_for_stored(&watch, name, "added");
    }
    wait_until_ready(&watch);
    assert!(watch.metric("planewatch_watch_failures_total{source=\"watch\",reason=\"gone\"}") >= 1.0);
    let from: Vec<_> = kube.watches(ROLES).iter().map(|it| it.parameter("resourceVersion").unwrap().to_owned()).collect();
    assert_eq!(from, ["5", "9"]);
    let gap = || watch.app.search("event_type = \"kubernetesEvent\" and action = \"WatchGap\"");
    wait_for("an event of the gap", || !gap().is_empty());
    assert!(gap().len() == 1 && gap()[0].to_string().contains(ROLES), "{:?}", gap());
    assert_no_repeats(&[&watch]);
    watch.stop();
}

#[test]
fn a_list_that_becomes_too_old_between_its_pages_begins_anew() {
    let kube = FakeKube::start(|asked| match (asked.is_watch(), asked.parameter("continue")) {
        (true, _) => open(&[]),
        (false, None) => page(5, &format!("token{}", asked.nth), &[object("a", 3)]),
        (false, Some("token0")) => gone(),
        (false, Some(_)) => page(5, "", &[object("b", 4)]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    wait_for_stored(&watch, "a", "added");
    wait_for_stored(&watch, "b", "added");
    wait_until_ready(&watch);
    let asked: Vec<_> = kube.lists(ROLES).iter().map(|it| it.parameter("continue").map(str::to_owned)).collect();
    assert_eq!(asked, [None, Some("token0".to_owned()), None, Some("token2".to_owned())]);
    assert_no_repeats(&[&watch]);
    watch.stop();
}

#[test]
fn a_server_that_refuses_every_watch_as_too_old_is_not_asked_without_a_pause() {
    let kube = FakeKube::start(|asked| match (asked.is_watch(), asked.phase) {
        (false, _) => page(5, "", &[object("a", 3)]),
        (true, 0) => gone(),
        (true, _) => open(&[line("ADDED", object("b", 6))]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    let watches = wait_for_watches(&kube, 5);
    assert_paused(&watches, 4, Duration::from_secs(1));
    kube.phase(1);
    wait_for_stored(&watch, "b", "added");
    wait_until_ready(&watch);
    assert_no_repeats(&[&watch]);
    watch.stop();
}

#[test]
fn an_item_without_metadata_is_set_aside_and_its_neighbours_are_stored() {
    let kube = FakeKube::start(|asked| match (asked.is_watch(), asked.nth) {
        (false, _) => page(5, "", &[object("a", 3), json!({"spec": {}}), object("b", 4)]),
        (true, _) => open(&[]),
    });
    let mut watch = started(&kube, &[ROLES], &json!({}));
    wait_for_stored(&watch, "a", "added");
    wait_for_stored(&watch, "b", "added");
    wait_for("the quarantine", || watch.app.quarantine().len() == 1);
    wait_until_ready(&watch);
    watch.stop();
}

/// A Lease as the API server keeps it.
#[derive(Default)]
struct Lease {
    kept: Option<Value>,
    version: u64,
}

impl Lease {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let mut wanted: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let kept = self.kept.as_ref().map_or(Value::Null, |it| it["metadata"]["resourceVersion"].clone());
        if asked.phase == 2 {
            // Another holds it, and renews each time that it is looked at.
            wanted = json!({"metadata": {"name": "planewatch"}, "spec": {"holderIdentity": "two", "leaseDurationSeconds": 3}});
        }
        match (&*asked.method, &self.kept) {
            ("GET", None) => return Answer::refusal(404, "NotFound", "leases \"planewatch\" not found"),
            ("GET", Some(kept)) if asked.phase != 2 => return Answer::Whole(200, kept.to_string()),
            ("POST", Some(_)) => return Answer::refusal(409, "AlreadyExists", "leases \"planewatch\" already exists"),
            ("PUT", _) if asked.phase == 2 || wanted["metadata"]["resourceVersion"] != kept => {
                return Answer::refusal(409, "Conflict", "the object has been modified");
            }
            _ => {}
        }
        self.version += 1;
        wanted["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.kept = Some(wanted.clone());
        Answer::Whole(if asked.method == "POST" { 201 } else { 200 }, wanted.to_string())
    }
}

#[test]
fn a_leader_that_lost_its_lease_in_an_outage_is_a_standby_that_is_ready() {
    let lease = Mutex::new(Lease::default());
    let kube = FakeKube::start(move |asked| match asked.phase {
        1 => Answer::None,
        _ if asked.path.contains("/leases") => lease.lock().unwrap().answer(asked),
        _ if asked.is_watch() => open(&[]),
        _ => page(5, "", &[object("a", 3)]),
    });
    let lease = json!({"namespace": "planewatch", "identity": "one", "duration_secs": 3});
    let mut watch = started(&kube, &[ROLES], &json!({ "lease": lease }));
    let up = "planewatch_watch_up{source=\"watch\",resource=\"roles\"}";
    wait_for("the leader's watch", || watch.is_leader() && watch.metric(up) > 0.5);
    wait_for_stored(&watch, "a", "added");
    kube.phase(1);
    wait_for("the end of its term", || !watch.is_leader());
    wait_for_reason(&watch, "watch/");
    kube.phase(2);
    wait_until_ready(&watch);
    assert!(!watch.is_leader());
    wait_for("what is not watched to be gone from the metrics", || {
        watch.metrics().contains("planewatch_") && !watch.metrics().contains(up)
    });
    wait_until_ready(&watch);
    watch.stop();
}
