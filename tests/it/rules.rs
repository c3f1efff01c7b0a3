//! Rules: the built-in ones against labelled cases of others, Sigma against its oracle, alerts in any order.

use crate::support::judge::matching;
use crate::support::{TestApp, output, planewatch, root, shared, stderr, stdout};
use planewatch::filter::Lists;
use planewatch::rules::{RuleSet, Source, load};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

fn builtin() -> RuleSet {
    let loaded = load(&[Source::Builtin], &Lists::default());
    assert_eq!(loaded.problems, []);
    RuleSet::new(loaded.rules)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.to_string_lossy().ends_with(end));
    files.sort();
    files
}

/// What a table claims: their rule, ours, and the cases in which we disagree on purpose.
fn claims(name: &str) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let text = fs::read_to_string(root().join("tests/data/coverage").join(name)).unwrap();
    let mut claims = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [theirs, ours, disagreeing] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let list = |text: &str, by: &str| text.split(by).map(|it| it.trim().to_owned()).filter(|it| it != "-").collect::<Vec<_>>();
        claims.insert(theirs.to_owned(), (list(ours, ","), list(disagreeing, " | ")));
    }
    claims
}

#[test]
fn built_in_rules_are_sound_and_their_tests_pass() {
    for command in ["lint", "test"] {
        let output = output(&["rules", command]);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
    let listed = lines(&stdout(&output(&["rules", "list", "--output", "json"])));
    let of = |kind: &str| listed.iter().filter(|it| it["event_types"][0] == kind).count();
    assert!(of("cloudtrail") >= 60, "{}", of("cloudtrail"));
    assert!(of("kubernetesAudit") >= 35, "{}", of("kubernetesAudit"));
}

#[test]
fn every_technique_raises_an_alert_of_its_tactic() {
    let Some(folder) = shared("data/stratus-red-team/techniques") else { return };
    let all = files(&folder, ".json");
    assert!(all.len() >= 24);
    for file in all {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let tactic = format!("attack.{}", name.split('.').nth(1).unwrap());
        let output = output(&["hunt", file.to_str().unwrap(), "--output", "json"]);
        let alerts = lines(&stdout(&output));
        let names_it = |it: &Value| it["tags"].as_array().unwrap().iter().any(|tag| *tag == *tactic);
        assert!(alerts.iter().any(names_it), "{name}: {alerts:#?}");
    }
}

/// Rules that may be louder in the quiet trail, each with the reason. None is.
const LOUD: &[(&str, &str)] = &[];

#[test]
fn a_quiet_trail_stays_quiet() {
    let Some(folder) = shared("data/sans-s3-ransomware/s3") else { return };
    let events = stdout(&output(&["replay", folder.to_str().unwrap()])).lines().count();
    let alerts = lines(&stdout(&output(&["hunt", folder.to_str().unwrap(), "--output", "json"])));
    let mut by_rule = BTreeMap::<&str, usize>::new();
    for alert in &alerts {
        *by_rule.entry(alert["ruleId"].as_str().unwrap()).or_default() += 1;
    }
    for (rule, n) in &by_rule {
        eprintln!("{n:>4} alerts in {events} events: {rule}");
    }
    for (rule, n) in by_rule {
        assert!(n * 10_000 <= 5 * events || LOUD.iter().any(|(loud, _)| *loud == rule), "{rule}: {n} alerts in {events} events");
    }
}

#[test]
fn labelled_cases_of_panther_agree() {
    let Some(folder) = shared("data/panther-analysis/cases") else { return };
    let set = builtin();
    let (mut agree, mut all, mut wrong) = (0, 0, Vec::new());
    for (theirs, (ours, excused)) in claims("panther.tsv") {
        for id in &ours {
            assert!(set.rules.iter().any(|rule| rule.id == *id), "{theirs} names `{id}`, which is no rule of ours");
        }
        let cases: Value = serde_json::from_str(&fs::read_to_string(folder.join(format!("{theirs}.json"))).unwrap()).unwrap();
        for case in cases["tests"].as_array().unwrap() {
            // GKE's LogEntry is no audit event, and a mock is a look-up that no event holds.
            if case["mocks"] == true || case["event"]["protoPayload"].is_object() {
                continue;
            }
            let found = matching(&set, &case["event"].to_string()).concat_ids();
            let name = case["name"].as_str().unwrap().to_owned();
            all += 1;
            if ours.iter().any(|id| found.contains(id)) == case["expected"].as_bool().unwrap() {
                agree += 1;
            } else if !excused.contains(&name) {
                wrong.push(format!("{theirs}: {name}"));
            }
        }
    }
    eprintln!("panther: {agree} of {all} labelled cases agree");
    assert!(all > 300 && agree * 100 >= all * 95, "{agree} of {all}: {wrong:#?}");
    assert!(wrong.is_empty(), "disagree without being listed: {wrong:#?}");
}

trait ConcatIds {
    fn concat_ids(self) -> BTreeSet<String>;
}

impl ConcatIds for Vec<BTreeSet<String>> {
    fn concat_ids(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn labelled_traces_of_falco_agree() {
    let Some(folder) = shared("data/falco-k8s-audit/cases") else { return };
    let set = builtin();
    let claims: HashMap<String, _> = claims("falco.tsv").into_iter().map(|(name, it)| (name.to_lowercase(), it)).collect();
    let (mut agree, mut all, mut wrong) = (0, 0, Vec::new());
    for file in files(&folder, ".expected.json") {
        let tests: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let trace = file.to_string_lossy().replace(".expected.json", ".json");
        let matches = matching(&set, &fs::read_to_string(&trace).unwrap());
        for test in tests.as_array().unwrap().iter().filter(|it| it["detect"] == true) {
            let counts = test["counts"].as_array().cloned().unwrap_or_default();
            for (theirs, count) in counts.iter().flat_map(|it| it.as_object().unwrap()) {
                let Some((ours, excused)) = claims.get(&theirs.to_lowercase()) else { continue };
                let found = matches.iter().filter(|ids| ours.iter().any(|id| ids.contains(id))).count() as u64;
                all += 1;
                if found == count.as_u64().unwrap() {
                    agree += 1;
                } else if !excused.contains(&test["test"].as_str().unwrap().to_owned()) {
                    wrong.push(format!("{trace}: {theirs}: {found} of {count}"));
                }
            }
        }
    }
    eprintln!("falco: {agree} of {all} labelled traces agree");
    assert!(all > 20 && agree * 100 >= all * 95, "{agree} of {all}: {wrong:#?}");
}

#[test]
fn sigma_rules_agree_with_their_oracle() {
    let (Some(data), Some(sigma), Some(suzaku)) = (shared("data"), shared("data/sigma-rules/rules"), shared("data/suzaku-rules/rules"))
    else {
        return;
    };
    let mut found = HashMap::<(&str, String), BTreeSet<String>>::new();
    for (kind, name, more) in [("ct", "cloudtrail", Some(data.join("sans-s3-ransomware/s3"))), ("k8s", "k8s-audit", None)] {
        let mut keys = HashMap::new();
        let mut command = planewatch(&["hunt", "--matches", "--output", "json", "--rules"]);
        command.arg(&sigma).arg("--rules").arg(&suzaku).args(more);
        for folder in fs::read_dir(&data).unwrap().map(|it| it.unwrap().path()) {
            let events = folder.join(format!("{name}.ndjson"));
            let Ok(index) = fs::read_to_string(folder.join(format!("{name}.index.tsv"))) else { continue };
            let of_lines: Vec<String> = index.lines().map(|line| line.split('\t').nth(1).unwrap().to_owned()).collect();
            keys.insert(format!("file://{}", events.canonicalize().unwrap().display()), of_lines);
            command.arg(events);
        }
        let output = command.output().unwrap();
        assert!(stderr(&output).contains("unsupported__cloud__aws_enum_network.yml: not loaded"), "{}", stderr(&output));
        for it in lines(&stdout(&output)) {
            let origin = &it["origin"];
            let key = match keys.get(origin["uri"].as_str().unwrap()) {
                Some(of_lines) => of_lines[origin["index"].as_u64().unwrap() as usize].clone(),
                None => format!("ct:{}", it["native_id"].as_str().unwrap()),
            };
            found.entry((kind, it["rule_id"].as_str().unwrap().to_owned())).or_default().insert(key);
        }
    }
    let expected = lines(&fs::read_to_string(data.join("sigma-expected/expected.ndjson")).unwrap());
    let mut wrong = Vec::new();
    for it in &expected {
        let (kind, rule) = (it["logsource"].as_str().unwrap(), it["rule_id"].as_str().unwrap());
        let kind = if kind == "ct" { "ct" } else { "k8s" };
        let ours = found.remove(&(kind, rule.to_owned())).unwrap_or_default();
        let same_keys =
            it["keys"].as_array().is_none_or(|keys| keys.iter().map(|it| it.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>() == ours);
        if ours.len() as u64 != it["count"].as_u64().unwrap() || !same_keys {
            wrong.push(format!("{rule} {kind}: {} found, {} expected", ours.len(), it["count"]));
        }
    }
    assert!(expected.len() > 400);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const RULES: &[(&str, &str)] = &[
    ("each", "filter: eventName = \"ListThings\"\n"),
    ("many", "filter: eventName = \"ListThings\"\nthreshold: 4\n"),
    ("kinds", "filter: eventName != null\ndistinct: {field: eventName, count: 3}\n"),
    ("new", "filter: eventName != null\nfirst_seen: {field: awsRegion, history: 7d}\n"),
    ("steps", "sequence:\n  - filter: eventName = \"CreateThing\"\n  - filter: eventName = \"DeleteThing\"\n"),
];

fn write_rules(app: &TestApp) -> PathBuf {
    for (id, body) in RULES {
        let head = format!("id: {id}\ntitle: \"{id} by {{{{user}}}}\"\nseverity: 2\ntype: CloudTrail\ndescription: A test.\n");
        app.file(&format!("rules/{id}.yaml"), format!("{head}aggregate_fields: [user]\nwindow: 10m\n{body}"));
    }
    app.path("rules")
}

/// Alerts of a hunt without what names files.
fn alerts(app: &TestApp, rules: &Path) -> Vec<Value> {
    let output = output(&["hunt", app.path("files").to_str().unwrap(), "--rules", rules.to_str().unwrap(), "--output", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut alerts = lines(&stdout(&output));
    for alert in &mut alerts {
        let ids = alert["events"].as_array().unwrap().iter().map(|it| it["raw"]["eventID"].clone()).collect();
        alert["events"] = Value::Array(ids);
    }
    alerts
}

#[test]
fn the_same_alerts_in_any_order_of_arrival() {
    let mut random = fastrand::Rng::with_seed(7);
    let names = ["ListThings", "ListThings", "GetThing", "CreateThing", "DeleteThing"];
    let records: Vec<Value> = (0..300)
        .map(|n| {
            let minute = random.u32(0..180);
            let time = format!("2026-01-02T{:02}:{:02}:{:02}Z", 3 + minute / 60, minute % 60, random.u32(0..60));
            let mut record = crate::support::record(&format!("event-{n}"), &time, names[random.usize(0..names.len())]);
            record["userIdentity"]["userName"] = format!("user-{}", random.u32(0..3)).into();
            record["awsRegion"] = ["us-east-1", "eu-west-1", "ap-south-2"][random.usize(0..3)].into();
            record
        })
        .collect();
    let mut first = None;
    for _ in 0..6 {
        let app = TestApp::new().folder("files");
        let rules = write_rules(&app);
        let mut order: Vec<usize> = (0..records.len()).collect();
        random.shuffle(&mut order);
        for (n, chunk) in order.chunks(40).enumerate() {
            let object = serde_json::json!({"Records": chunk.iter().map(|at| &records[*at]).collect::<Vec<_>>()});
            app.file(&format!("files/{n}.json"), object.to_string());
        }
        let found = alerts(&app, &rules);
        for (id, _) in RULES {
            assert!(found.iter().any(|it| it["ruleId"] == **id), "{id} raised nothing");
        }
        let expected = first.get_or_insert_with(|| found.clone());
        assert_eq!(&found, expected);
    }
}

#[test]
fn a_rule_that_does_not_load_is_named_and_counts_only_when_strict() {
    let app = TestApp::new().folder("files");
    app.file("files/a.json", crate::support::record("one", "2026-01-02T03:04:05Z", "ListThings").to_string());
    let rules = write_rules(&app);
    app.file("rules/broken.yaml", "id: broken\ntitle: t\nseverity: 2\ntype: CloudTrail\ndescription: d\nfilter: eventName == 1\n");
    app.file("rules/unknown.yaml", "id: unknown\ntitle: t\nseverity: 2\ntype: CloudTrail\ndescription: d\nfilter: a = 1\ncolour: red\n");
    app.file("rules/twice.yaml", "id: each\ntitle: t\nseverity: 2\ntype: CloudTrail\ndescription: d\nfilter: a = 1\n");
    app.file("rules/sigma.yml", "title: s\nid: s\nlogsource: {product: windows}\ndetection: {a: {b: c}, condition: a}\n");
    let (files, rules) = (app.path("files"), rules.to_str().unwrap().to_owned());
    let hunt = |more: &[&str]| output(&[&["hunt", files.to_str().unwrap(), "--rules", &rules, "--output", "json"], more].concat());
    let lenient = hunt(&[]);
    assert_eq!(lenient.status.code(), Some(0), "{}", stderr(&lenient));
    let said = stderr(&lenient);
    for expected in ["broken.yaml: not loaded: filter:", "^", "colour", "has a rule with the id `each`", "product: windows"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(lines(&stdout(&lenient)).iter().any(|it| it["ruleId"] == "each"));
    assert_eq!(hunt(&["--strict"]).status.code(), Some(1));
}

/// Alerts of a store, as a hunt over the same input would print them.
pub(crate) fn stored_alerts(app: &TestApp) -> Vec<Value> {
    let output = output(&["alerts", "list", "--data-dir", app.data().to_str().unwrap(), "--output", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut alerts = lines(&stdout(&output));
    for alert in &mut alerts {
        let ids = alert["events"].as_array().unwrap().iter().map(|it| it["raw"]["eventID"].clone()).collect();
        alert["events"] = Value::Array(ids);
        for only_stored in [
            "createdAt",
            "expiresAt",
            "isDismissed",
            "dismissedAt",
            "dismissedBy",
            "dismissReason",
            "dismissReasonText",
            "assignee",
            "notes",
        ] {
            alert.as_object_mut().unwrap().remove(only_stored);
        }
    }
    alerts.sort_by_key(|it| (it["ruleId"].to_string(), it["aggregates"].to_string(), it["windowStart"].as_i64()));
    alerts
}

#[test]
fn alerts_of_the_store_are_those_of_a_hunt_in_whatever_pieces_the_events_come() {
    let mut random = fastrand::Rng::with_seed(11);
    let names = ["ListThings", "GetThing", "CreateThing", "DeleteThing"];
    let records: Vec<Value> = (0..240)
        .map(|n| {
            let time = format!("2026-01-02T03:{:02}:{:02}Z", random.u32(0..60), random.u32(0..60));
            let mut record = crate::support::record(&format!("event-{n}"), &time, names[random.usize(0..names.len())]);
            record["userIdentity"]["userName"] = format!("user-{}", random.u32(0..2)).into();
            record
        })
        .collect();
    let mut app = TestApp::new().folder("files");
    let rules = write_rules(&app);
    // What is first seen is decided when its lateness has passed, which no test waits for.
    fs::remove_file(rules.join("new.yaml")).unwrap();
    app = app.with("rules", serde_json::json!({"builtin": false, "directories": [rules]}));
    // In four runs, shuffled, each record perhaps twice: what comes again counts once.
    let mut order: Vec<usize> = (0..records.len()).chain((0..records.len()).filter(|n| n % 3 == 0)).collect();
    random.shuffle(&mut order);
    for (n, chunk) in order.chunks(order.len() / 4 + 1).enumerate() {
        let object = serde_json::json!({"Records": chunk.iter().map(|at| &records[*at]).collect::<Vec<_>>()});
        app.file(&format!("files/{n}.json"), object.to_string());
        app.drain();
    }
    let stored = stored_alerts(&app);
    let once = TestApp::new().folder("files");
    once.file("files/all.json", serde_json::json!({ "Records": records }).to_string());
    let mut hunted = alerts(&once, &rules);
    hunted.sort_by_key(|it| (it["ruleId"].to_string(), it["aggregates"].to_string(), it["windowStart"].as_i64()));
    assert_eq!(stored, hunted);
    assert!(["each", "many", "kinds", "steps"].iter().all(|id| stored.iter().any(|it| it["ruleId"] == **id)), "{stored:#?}");
    // The events say what matched them.
    let matched = app.search("alert_metadata.match_state = \"MATCHED\" and alert_metadata.rule_matches = \"each\"");
    assert_eq!(matched.len(), records.iter().filter(|it| it["eventName"] == "ListThings").count());
}

#[test]
fn a_dismissed_alert_stays_and_the_next_match_opens_another() {
    let mut app = TestApp::new().folder("files");
    let rules = write_rules(&app);
    app = app.with("rules", serde_json::json!({"builtin": false, "directories": [rules]}));
    let list = |n: u32| crate::support::record(&format!("event-{n}"), "2026-01-02T03:04:05Z", "ListThings").to_string();
    app.file("files/0.json", list(0));
    app.drain();
    let data = app.data().to_str().unwrap().to_owned();
    let all = || lines(&stdout(&output(&["alerts", "list", "--dismissed", "--data-dir", &data, "--output", "json"])));
    let id = all().iter().find(|it| it["ruleId"] == "each").unwrap()["id"].as_str().unwrap().to_owned();
    let dismiss =
        || output(&["alerts", "dismiss", &id, "--reason", "maintenance", "--text", "planned", "--by", "ada", "--data-dir", &data]);
    assert_eq!(dismiss().status.code(), Some(0));
    assert_eq!(dismiss().status.code(), Some(1), "it is dismissed once");
    app.file("files/1.json", list(1));
    app.drain();
    let alerts: Vec<Value> = all().into_iter().filter(|it| it["ruleId"] == "each").collect();
    assert_eq!(alerts.len(), 2, "{alerts:#?}");
    let dismissed = alerts.iter().find(|it| it["id"] == *id).unwrap();
    assert_eq!(
        (&dismissed["dismissReason"], &dismissed["dismissedBy"], &dismissed["count"]),
        (&"MAINTENANCE".into(), &"ada".into(), &1.into())
    );
    let open = alerts.iter().find(|it| it["isDismissed"] == false).unwrap();
    assert_eq!(open["count"], 1);
    assert_eq!(open["events"][0]["raw"]["eventID"], "event-1");
    let shown = output(&["alerts", "show", &id, "--data-dir", &data]);
    assert!(stdout(&shown).contains("dismissed: MAINTENANCE"), "{}", stdout(&shown));
}

#[test]
fn the_events_of_an_alert_outlive_the_stored_events() {
    let mut app = TestApp::new().folder("files");
    let rules = write_rules(&app);
    app = app.with("rules", serde_json::json!({"builtin": false, "directories": [rules]}));
    app.file("files/0.json", crate::support::record("event-0", "2026-01-02T03:04:05Z", "ListThings").to_string());
    app.drain();
    let events = || {
        let found = app.alerts();
        found.into_iter().find(|it| it["ruleId"] == "each").unwrap()["events"].clone()
    };
    let before = events();
    assert_eq!(before[0]["raw"]["eventID"], "event-0", "found among the stored events");
    // A run copies them soon after its start.
    let mut running = planewatch(&["run", "-c", app.config().to_str().unwrap()]).spawn().unwrap();
    let db = rusqlite::Connection::open(app.data().join("state.db")).unwrap();
    crate::support::wait_for("the copies", || {
        db.query_row("SELECT count(*) FROM evidence WHERE json IS NULL", [], |row| row.get::<_, i64>(0)).is_ok_and(|n| n == 0)
    });
    running.kill().unwrap();
    running.wait().unwrap();
    db.execute("DELETE FROM segments", []).unwrap();
    assert!(app.search("").is_empty(), "as after 72 hours");
    assert_eq!(events(), before);
}

#[test]
fn a_suppression_hides_the_alert_never_the_event() {
    let mut app = TestApp::new().folder("files");
    let rules = write_rules(&app);
    let suppression = |id: &str, filter: &str, more: &str| {
        app.file(&format!("suppressions/{id}.yaml"), format!("id: {id}\nfilter: {filter}\nowner: ada\nreason: A test.\n{more}"));
    };
    suppression("robot", "user = \"robot\"", "rules: [each]\n");
    suppression("expired", "eventName = \"ListThings\"", "expires: 2020-01-01\n");
    let folder = app.path("suppressions");
    app = app.with("rules", serde_json::json!({"builtin": false, "directories": [rules]}));
    app = app.with("suppressions", serde_json::json!({"directories": [folder]}));
    let record = |n: u32, user: &str| {
        let mut record = crate::support::record(&format!("event-{n}"), "2026-01-02T03:04:05Z", "ListThings");
        record["userIdentity"]["userName"] = user.into();
        record
    };
    let records = [record(0, "robot"), record(1, "robot"), record(2, "bob"), record(0, "robot")];
    app.file("files/a.json", serde_json::json!({ "Records": records }).to_string());
    app.drain();
    let of_each: Vec<Value> = stored_alerts(&app).into_iter().filter(|it| it["ruleId"] == "each").collect();
    assert_eq!(of_each.len(), 1, "{of_each:#?}");
    assert_eq!(of_each[0]["aggregates"]["user"], "bob");
    assert_eq!(app.search("user = \"robot\" and alert_metadata.num_suppressed = 1").len(), 2, "the events stay");
    let (data, folder) = (app.data().to_str().unwrap().to_owned(), app.path("suppressions").to_str().unwrap().to_owned());
    let listed = lines(&stdout(&output(&["suppressions", "list", "--suppressions", &folder, "--data-dir", &data, "--output", "json"])));
    let of = |id: &str| listed.iter().find(|it| it["id"] == id).unwrap().clone();
    assert_eq!((&of("robot")["hits"], &of("expired")["hits"]), (&2.into(), &0.into()), "a repeat is no hit");
    assert_eq!(of("expired")["isExpired"], true);
    app.file("suppressions/never.yaml", "id: never\nfilter: pid = 1 and user = \"root\"\nowner: ada\nreason: A test.\n");
    app.file("suppressions/broken.yaml", "id: broken\nfilter: user = = 1\nowner: ada\nreason: A test.\n");
    let linted = output(&["suppressions", "lint", "--suppressions", &folder]);
    assert_eq!(linted.status.code(), Some(1));
    for expected in ["never: never matches again: `pid`", "expired: has expired", "broken.yaml: not loaded: filter:"] {
        assert!(stderr(&linted).contains(expected), "{expected}: {}", stderr(&linted));
    }
}

/// Matches of one rule and its aggregate values that a store keeps.
const MATCHES_MAX: usize = 100_000;

#[test]
fn a_rule_past_its_bound_says_so_and_its_alert_stays() {
    let app = TestApp::new().folder("in");
    let rule =
        "id: many\ntitle: many\nseverity: 3\ntype: CloudTrail\ndescription: test\nfilter: eventName = \"A\"\nwindow: 1h\nthreshold: 2\n";
    app.file("rules/many.yaml", rule);
    let rules = app.path("rules");
    let app = app.with("rules", serde_json::json!({"builtin": false, "directories": [rules]}));
    let event = |n: usize| {
        format!("{{\"eventName\":\"A\",\"eventID\":\"{n}\",\"eventTime\":\"2026-11-24T12:00:00Z\",\"eventVersion\":\"1.11\"}}\n")
    };
    let overflow = || stored_alerts(&app).into_iter().find(|it| it["ruleId"] == "planewatch-rule-overflow");
    app.file("in/a.ndjson", (0..MATCHES_MAX).map(event).collect::<String>());
    assert_eq!(app.drain()["stored"], MATCHES_MAX);
    assert!(overflow().is_none(), "as many as are kept are no overflow");
    app.file("in/b.ndjson", (MATCHES_MAX..MATCHES_MAX + 7).map(event).collect::<String>());
    app.drain();
    let said = overflow().unwrap();
    assert_eq!((&said["aggregates"]["rule"], &said["count"]), (&serde_json::json!("many"), &serde_json::json!(7)), "{said}");
    let alert = stored_alerts(&app).into_iter().find(|it| it["ruleId"] == "many").unwrap();
    assert_eq!(alert["count"], MATCHES_MAX, "what is kept is in it");
}
