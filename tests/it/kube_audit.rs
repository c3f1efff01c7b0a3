//! The audit log of a real API server with the policy that we recommend.

use crate::rules::stored_alerts;
use crate::support::audit::assert_stored;
use crate::support::kube::{Kube, Who, deployed};
use crate::support::kube_operations::operations;
use crate::support::{TestApp, lines, output, stderr, stdout};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Resources whose bodies are secrets.
const SECRET_KINDS: &[&str] = &["secrets", "serviceaccounts/token", "tokenreviews"];

fn kind(line: &Value) -> String {
    let part = |name: &str| line["objectRef"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("resource"), part("subresource")).trim_end_matches('/').to_owned()
}

#[test]
fn every_line_of_a_real_audit_log_is_stored_once() {
    let Some(kube) = Kube::prepare() else { return };
    let mut kube = kube.start();
    operations(&kube, "shop", 500);
    // kubectl looks for the pod first, and that is refused before it asks for a shell.
    let exec = "/api/v1/namespaces/shop/pods/target/exec?command=id&stdout=true";
    assert!(!kube.kubectl_with(Who::Dev, &["create", "--raw", exec, "-f", "-"], "{}").status.success());
    kube.stop_server();
    let audited = kube.audited();
    assert!(audited.len() > 500, "only {} lines", audited.len());
    the_policy_keeps_its_word(&audited);

    let source = json!({"type": "directory", "name": "audit", "path": kube.path("audit"), "cluster": "prod"});
    let app = TestApp::new().source(source).with("rules", json!({"builtin": true}));
    let n = audited.len();
    assert_eq!(app.drain(), json!({"received": n, "stored": n, "duplicate": 0, "quarantined": 0, "filtered": 0}));
    let stored = app.search("");
    assert_stored(&audited, &stored, "prod");
    assert_eq!(app.quarantine(), [] as [Value; 0]);
    the_rules_see_it(&app);

    // The same lines in another file are the same events.
    std::fs::copy(kube.audit_log(), kube.path("audit/audit-2026-01-02T03-04-05.678.log")).unwrap();
    assert_eq!(app.drain(), json!({"received": n, "stored": 0, "duplicate": n, "quarantined": 0, "filtered": 0}));
    assert_eq!(app.search("").len(), n);

    let replay = output(&["replay", kube.audit_log().to_str().unwrap(), "--cluster", "prod"]);
    assert_eq!(replay.status.code(), Some(0), "{}", stderr(&replay));
    assert_stored(&audited, &lines(&stdout(&replay)), "prod");
}

/// What `audit-policy.yaml` promises, seen in what the server wrote.
fn the_policy_keeps_its_word(audited: &[Value]) {
    let seen: BTreeSet<_> = audited.iter().map(kind).collect();
    for expected in ["secrets", "serviceaccounts/token", "pods/exec", "roles", "rolebindings", "clusterrolebindings", "pods", "configmaps"]
    {
        assert!(seen.contains(expected), "no {expected} among {seen:?}");
    }
    let n = |is: &dyn Fn(&Value) -> bool| audited.iter().filter(|it| is(it)).count();
    assert!(n(&|it| it["responseStatus"]["code"] == 403) > 50, "denied");
    assert!(n(&|it| it["responseStatus"]["code"] == 401) > 20, "a wrong token");
    assert!(n(&|it| it["user"]["username"] == "system:anonymous") > 20, "anonymous");
    assert!(n(&|it| it["impersonatedUser"]["username"] == "alice") > 20, "impersonation");
    assert!(n(&|it| it["requestObject"].is_array()) > 20, "JSON patches");
    assert!(n(&|it| it["stage"] == "RequestReceived") > 20);
    assert_eq!(n(&|it| it["stage"] == "RequestReceived" && it["verb"] != "patch"), 0);
    // What is worth an event when it starts.
    let is_someone = |it: &&Value| it["user"]["username"].is_string();
    let started: BTreeSet<_> = audited.iter().filter(|it| it["stage"] == "ResponseStarted").filter(is_someone).map(kind).collect();
    assert_eq!(started, ["pods/exec", "secrets"].map(str::to_owned).into());
    for line in audited {
        if SECRET_KINDS.contains(&kind(line).as_str()) {
            assert_eq!(line["level"], "Metadata", "{line}");
            assert!(line.get("requestObject").is_none() && line.get("responseObject").is_none(), "{line}");
        }
        if kind(line).ends_with("bindings") && line["verb"] == "create" && line["responseStatus"]["code"] == 201 {
            assert!(line["requestObject"]["roleRef"].is_object() && line["responseObject"]["roleRef"].is_object(), "{line}");
        }
        assert!(!line.to_string().contains("managedFields\":[{"), "{line}");
    }
    let quiet = |it: &Value| {
        let uri = it["requestURI"].as_str().unwrap();
        let path = uri.split('?').next().unwrap();
        let is_known = it["user"]["groups"].to_string().contains("system:authenticated");
        matches!(path, "/readyz" | "/livez" | "/healthz") || is_known && (path.starts_with("/openapi") || path == "/api" || path == "/apis")
    };
    assert_eq!(n(&quiet), 0);
}

/// Rules look at bodies and stages: the policy must bring what they need.
fn the_rules_see_it(app: &TestApp) {
    let raised: BTreeSet<_> = stored_alerts(app).iter().map(|it| it["ruleId"].as_str().unwrap().to_owned()).collect();
    for rule in [
        "k8s-authentication-failures",
        "k8s-impersonation-of-the-powerful",
        "k8s-permission-probing",
        "k8s-pod-exec",
        "k8s-pod-exec-denied",
        "k8s-role-wildcard-created",
        "k8s-secret-read-by-person",
        "k8s-token-requested",
    ] {
        assert!(raised.contains(rule), "{rule} is not among {raised:?}");
    }
}

/// Kubernetes 1.34 loses the event of a patch that is not JSON, although it does what the patch says.
#[test]
fn a_patch_in_yaml_leaves_a_trace() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let path = "/api/v1/namespaces/default/serviceaccounts/yaml";
    let object = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: yaml}\n";
    assert_eq!(kube.request("PATCH", &format!("{path}?fieldManager=test"), "application/apply-patch+yaml", object), 201);
    let stages: Vec<_> = kube.audited().iter().filter(|it| it["objectRef"]["name"] == "yaml").map(|it| it["stage"].clone()).collect();
    assert_eq!(stages.first(), Some(&json!("RequestReceived")), "{stages:?}");
}

#[test]
fn the_watch_may_read_what_it_names_and_nothing_more() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    kube.create(&deployed("watch-rbac.yaml"));
    let rights = |namespace: &str| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}});
        let args = ["create", "--validate=false", "-f", "-", "-o", "json", "--as=system:serviceaccount:planewatch:planewatch"];
        let status: Value = serde_json::from_str(&kube.admin_with(&args, &review.to_string())).unwrap();
        assert_eq!(status["status"]["incomplete"], false);
        let mut rights = BTreeSet::new();
        for rule in status["status"]["resourceRules"].as_array().unwrap() {
            let texts = |name: &str| rule[name].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>();
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    rights.extend(
                        texts("verbs").into_iter().map(|verb| format!("{verb} {resource}.{group}").trim_end_matches('.').to_owned()),
                    );
                }
            }
        }
        // Everyone may ask what they may do.
        rights.retain(|it| !it.starts_with("create self"));
        rights
    };
    let watched = [
        "namespaces",
        "pods",
        "serviceaccounts",
        "events",
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    ];
    let mut expected: BTreeSet<_> =
        watched.iter().flat_map(|resource| ["get", "list", "watch"].map(|verb| format!("{verb} {resource}"))).collect();
    assert_eq!(rights("default"), expected);
    expected.extend(["get", "create", "update"].map(|verb| format!("{verb} leases.coordination.k8s.io")));
    assert_eq!(rights("planewatch"), expected);
}

/// What the tests of the watch lean on: a revision that is gone, and an API server that comes back to what it knew.
#[test]
fn a_restart_after_a_compaction_forgets_old_revisions_and_keeps_the_log() {
    let Some(kube) = Kube::prepare() else { return };
    let mut kube = kube.start();
    kube.admin(&["create", "serviceaccount", "before"]);
    kube.compact();
    kube.restart();
    let watch = kube.admin(&["get", "--raw", "/api/v1/serviceaccounts?watch=true&resourceVersion=1&timeoutSeconds=1"]);
    assert!(watch.contains("\"code\":410"), "{watch}");
    kube.admin(&["create", "serviceaccount", "after"]);
    let names: BTreeSet<_> = kube.audited().iter().map(|it| it["objectRef"]["name"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(names.contains("before") && names.contains("after"), "{names:?}");
}

#[test]
fn the_api_server_accepts_the_daemon_set() {
    let Some(kube) = Kube::prepare() else { return };
    let kube = kube.start();
    let created = kube.admin_with(&["create", "--validate=strict", "-f", "-"], &deployed("log-forward.daemonset.yaml"));
    assert_eq!(created.lines().count(), 4, "{created}");
}
