//! Secrets in the audit log of a real API server whose policy logs every body: they are found nowhere.

use crate::support::TestApp;
use crate::support::kube::{Kube, Who};
use crate::support::planted::Planted;
use crate::support::{output, stderr, stdout};
use serde_json::{Value, json};

const PLANTED: &str = "pl4nted-s3cret";
/// The same in base64, as `data` holds it.
const ENCODED: &str = "cGw0bnRlZC1zM2NyZXQ=";
/// A policy that nobody should have, and many do.
const UNWISE: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n";

/// Everything that brings a Secret's values, or a token, through the API server. Returns the tokens.
fn handle_secrets(kube: &Kube) -> Vec<String> {
    let secret = |name: &str, values: Value| {
        let metadata = json!({"name": name, "namespace": "default"});
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
        for (key, value) in values.as_object().unwrap() {
            secret[key] = value.clone();
        }
        secret.to_string()
    };
    let (plain, encoded) = (json!({"stringData": {"k": PLANTED}}), json!({"data": {"k": ENCODED}}));
    kube.admin(&["create", "secret", "generic", "literal", &format!("--from-literal=k={PLANTED}")]);
    // `apply` keeps the whole object once more, in an annotation; the second one patches it.
    kube.admin_with(&["apply", "-f", "-"], &secret("applied", plain.clone()));
    kube.admin_with(&["apply", "-f", "-"], &secret("applied", encoded.clone()));
    kube.admin_with(&["apply", "--server-side", "-f", "-"], &secret("server-side", encoded));
    kube.admin_with(&["replace", "-f", "-"], &secret("literal", plain.clone()));
    let patch =
        |kind: &str, patch: Value| kube.kubectl(Who::Admin, &["patch", "secret", "literal", "--type", kind, "-p", &patch.to_string()]);
    for (kind, body) in [
        ("merge", plain),
        ("strategic", json!({"data": {"k2": ENCODED}})),
        ("json", json!([{"op": "add", "path": "/data/k3", "value": ENCODED}, {"op": "test", "path": "/data/k3", "value": ENCODED}])),
        ("json", json!([{"op": "replace", "path": "/data", "value": {"deep": ENCODED}}])),
    ] {
        let output = patch(kind, body);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    // Not base64: the refusal quotes all of the Secret that would have been.
    for (kind, body) in [
        ("merge", json!({"data": {"k": PLANTED}})),
        ("strategic", json!({"data": {"k": PLANTED}})),
        ("json", json!([{"op": "add", "path": "/data/k", "value": PLANTED}])),
        ("json", json!([{"op": "replace", "path": "/data", "value": PLANTED}])),
    ] {
        let output = patch(kind, body);
        assert!(stderr(&output).contains(PLANTED), "{kind}: {}", stderr(&output));
    }
    kube.kubectl_with(Who::Admin, &["create", "--validate=false", "-f", "-"], &secret("broken", json!({"data": {"k": PLANTED}})));
    kube.kubectl_with(Who::Admin, &["create", "--validate=false", "-f", "-"], &secret("unknown", json!({"datum": {"k": PLANTED}})));
    for args in [&["get", "secret", "applied", "-o", "json"][..], &["get", "secrets", "-A"], &["get", "secrets", "-o", "yaml"]] {
        kube.admin(args);
    }
    kube.admin(&["get", "secrets", "--sort-by=.metadata.name"]); // asks for a table of whole objects
    kube.admin(&["delete", "secret", "server-side"]);
    kube.admin(&["delete", "--raw", "/api/v1/namespaces/default/secrets"]);

    kube.admin(&["create", "serviceaccount", "worker"]);
    let token = kube.admin(&["create", "token", "worker"]).trim().to_owned();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let reviewed = kube.admin_with(&["create", "-f", "-", "-o", "json"], &review.to_string());
    assert!(reviewed.contains("\"authenticated\": true"), "{reviewed}");
    vec![token]
}

#[test]
fn secrets_that_a_real_server_logged_are_found_nowhere() {
    let Some(kube) = Kube::prepare() else { return };
    let mut kube = kube.policy(UNWISE).start();
    let tokens = handle_secrets(&kube);
    kube.stop_server();
    let log = std::fs::read(kube.audit_log()).unwrap();
    let lines: Vec<_> = log.split(|it| *it == b'\n').filter(|it| !it.is_empty()).collect();

    let mut forms = vec![PLANTED.to_owned(), ENCODED.trim_end_matches('=').to_owned()];
    // A token whole, what it says, and its signature.
    forms.extend(tokens.iter().flat_map(|token| token.split('.').skip(1).map(str::to_owned).chain([token.clone()]).collect::<Vec<_>>()));
    let planted = Planted(forms);
    assert_eq!(planted.found_in(&log).len(), planted.0.len(), "this policy logs them all");

    // Whole, cut in the middle and near the end of each line that holds one, and broken.
    let app = TestApp::new().folder("files").with("rules", json!({"builtin": true}));
    app.file("files/audit.log", &log);
    let secret: Vec<_> = lines.iter().filter(|it| !planted.found_in(it).is_empty()).collect();
    assert!(secret.len() > 20, "only {} lines hold a secret", secret.len());
    for (n, line) in secret.iter().enumerate() {
        for (part, cut) in [line.len() / 3, line.len() / 2, line.len() * 2 / 3, line.len() - 200, line.len() - 20].iter().enumerate() {
            app.file(&format!("files/cut-{n}-{part}.log"), &line[..*cut]);
        }
        app.file(&format!("files/broken-{n}.log"), String::from_utf8_lossy(line).replacen("\"stage\":", "\"stage\" ", 1));
    }
    let config = app.config();
    let run = output(&["run", "-c", config.to_str().unwrap(), "--drain", "--output", "json", "--log-level", "debug"]);
    assert!(run.status.success(), "{}", stderr(&run));
    planted.assert_absent("run", format!("{}{}", stdout(&run), stderr(&run)).as_bytes());
    planted.assert_absent_everywhere(&app, &app.path("files"));
    assert!(app.search("flags = \"masked\"").len() > 20);
    assert!(app.quarantine().len() > secret.len());
}
