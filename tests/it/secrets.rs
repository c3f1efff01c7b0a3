//! Secrets that were put in are found nowhere: not in Parquet, log, state, quarantine, output.

use crate::support::{TestApp, gz, output, record, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;

const PLANTED: &str = "pl4nted-s3cret";

fn with_secrets() -> Vec<Value> {
    let make = |n: usize, source: &str, name: &str, parameters: Value| {
        let mut it = record(&format!("secret-{n}"), "2026-01-02T03:04:05Z", name);
        it["eventSource"] = json!(source);
        it["requestParameters"] = parameters;
        it
    };
    let s = PLANTED;
    vec![
        make(0, "iam.amazonaws.com", "CreateLoginProfile", json!({"userName": "bob", "password": s})),
        make(1, "rds.amazonaws.com", "CreateDBInstance", json!({"MasterUserPassword": s, "list": [{"deep": {"masterUserPassword": s}}]})),
        make(2, "lambda.amazonaws.com", "CreateFunction", json!({"environment": {"variables": {"A": s, "B": [s]}}})),
        make(
            3,
            "ecs.amazonaws.com",
            "RegisterTaskDefinition",
            json!({"containerDefinitions": [{"environment": [{"name": "A", "value": s}]}]}),
        ),
        make(4, "ssm.amazonaws.com", "PutParameter", json!({"name": "/a", "type": "SecureString", "value": s})),
        make(
            5,
            "sts.amazonaws.com",
            "AssumeRole",
            json!({"credentials": {"sessionToken": s, "secretAccessKey": s, "accessKeyId": "ASIAKEPT"}}),
        ),
        make(6, "ec2.amazonaws.com", "RunInstances", json!({"userData": s, "url": format!("https://bob:{s}@example.com/x")})),
        make(7, "s3.amazonaws.com", "GetObject", json!({"url": format!("https://b/k?X-Amz-Signature={s}&a=1")})),
    ]
}

fn assert_absent(what: &str, bytes: &[u8]) {
    assert!(!bytes.windows(PLANTED.len()).any(|it| it == PLANTED.as_bytes()), "{what} holds a planted secret");
}

fn only_the_owner_reads(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if path.is_dir() {
            only_the_owner_reads(&path);
        }
    }
}

fn walk(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path) } else { assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap()) }
    }
}

/// Audit events whose bodies carry what nobody may see.
fn audit_with_secrets() -> Vec<Value> {
    let s = PLANTED;
    let make = |n: usize, resource: Value, request: Value, response: Value| {
        json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": format!("audit-{n}"),
            "stage": "ResponseComplete", "verb": "create", "user": {"username": "ada"}, "stageTimestamp": "2026-01-02T03:04:05Z",
            "requestURI": "/api", "objectRef": resource, "requestObject": request, "responseObject": response, "responseStatus": {"code": 201}})
    };
    let applied = format!("{{\"data\":{{\"k\":\"{s}\"}}}}");
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    let secret = json!({"kind": "Secret", "metadata": {"annotations": annotations}, "data": {"k": s}, "stringData": {"deep": s}});
    vec![
        make(0, json!({"resource": "secrets"}), secret.clone(), json!({"items": [secret.clone()]})),
        make(1, json!({"resource": "secrets"}), json!([{"op": "add", "path": "/data/k", "value": s}]), Value::Null),
        make(2, json!({"resource": "serviceaccounts", "subresource": "token"}), Value::Null, json!({"status": {"token": s}})),
        make(3, json!({"resource": "tokenreviews"}), json!({"spec": {"token": s}}), json!({"spec": {"token": s}})),
        make(4, json!({"resource": "lists"}), json!({"items": [{"kind": "List", "items": [secret]}]}), Value::Null),
    ]
}

#[test]
fn planted_secrets_are_found_nowhere() {
    // Rules run too: alerts keep events whole.
    let app = TestApp::new().folder("files").with("rules", json!({"builtin": true}));
    let audit = audit_with_secrets();
    let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": audit}).to_string();
    app.file("files/audit.json", &list);
    app.file("files/audit.ndjson", audit.iter().map(Value::to_string).collect::<Vec<_>>().join("\n").replace("audit-", "line-"));
    for cut in (200..list.len()).step_by(61) {
        app.file(&format!("files/audit-cut-{cut}.json"), &list.as_bytes()[..cut]);
    }
    app.file("files/audit-broken.json", list.replace("\"verb\":", "\"verb\" "));
    // Cut before they came: lines, log events, what Azure wraps.
    let lines = audit.iter().map(Value::to_string).enumerate().map(|(n, line)| line[..line.len() - 1 - 40 * n].to_owned());
    let lines: Vec<_> = lines.collect();
    app.file("files/audit-cut-lines", lines.join("\n") + "\n");
    let log_events: Vec<_> = lines.iter().map(|it| json!({"id": "1", "timestamp": 1_772_600_768_000_i64, "message": it})).collect();
    let payload = json!({"messageType": "DATA_MESSAGE", "logGroup": "/aws/eks/a/cluster", "logStream": "kube-apiserver-audit-1", "logEvents": log_events});
    app.file("files/log-events.gz", gz(payload.to_string().as_bytes()));
    app.file("files/log-events-cut", &payload.to_string()[..2_000]);
    let wrapped = |it: &String| json!({"time": "2026-01-02T03:04:05Z", "category": "kube-audit", "properties": {"log": it}}).to_string();
    app.file("files/azure", lines.iter().map(wrapped).collect::<Vec<_>>().join("\n"));
    let records = with_secrets();
    let text = json!({"Records": records}).to_string();
    app.file("files/good.json", &text);
    // `"password"` spelled with an escape, cut in the middle, and broken.
    app.file("files/escaped.json", text.replace("secret-", "escaped-").replace("\"password\"", "\"p\\u0061ssword\""));
    for cut in (200..text.len()).step_by(97) {
        app.file(&format!("files/cut-{cut}.json"), &text.as_bytes()[..cut]);
    }
    app.file("files/broken.json", text.replace("\"eventVersion\":", "\"eventVersion\" "));
    app.file("files/cut.json.gz", &gz(text.as_bytes())[..300]);
    app.drain();
    walk(&app.data());
    only_the_owner_reads(&app.data());
    let events = app.search("");
    assert_absent("search", serde_json::to_string(&events).unwrap().as_bytes());
    assert!(events.iter().filter(|it| it["flags"].to_string().contains("masked")).count() >= 16);
    assert_eq!(app.search("requestParameters.credentials.accessKeyId = \"ASIAKEPT\"").len(), 2, "access key ids are no secrets");
    assert_eq!(app.search("requestParameters.password = \"[masked]\"").len(), 2);
    assert_absent("quarantine list", serde_json::to_string(&app.quarantine()).unwrap().as_bytes());
    let files = app.path("files");
    let replay = output(&["replay", files.to_str().unwrap(), "--output", "json"]);
    assert_absent("replay", &replay.stdout);
    assert_absent("replay's reports", &replay.stderr);
    let first = app.quarantine()[0]["id"].to_string();
    let data = app.data();
    let shown = output(&["quarantine", "show", &first, "--data-dir", data.to_str().unwrap()]);
    assert_absent("quarantine show", format!("{}{}", stdout(&shown), stderr(&shown)).as_bytes());
}
