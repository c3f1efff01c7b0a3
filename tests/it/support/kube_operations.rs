//! What people and attackers do with a cluster, as calls of kubectl: the load of the Kubernetes tests.

use super::kube::{Kube, Who};
use super::{stderr, stdout};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// kubectl calls at one time.
const CALLERS: usize = 4;

/// `n` calls of kubectl in a namespace of this name, each of which ends as it must.
pub(crate) fn operations(kube: &Kube, namespace: &str, n: usize) {
    kube.admin(&["create", "namespace", namespace]);
    kube.admin(&["create", "serviceaccount", "worker", "-n", namespace]);
    kube.admin(&["create", "configmap", "shared", "-n", namespace]);
    kube.admin(&["create", "role", "shared", "-n", namespace, "--verb=get", "--resource=pods"]);
    kube.admin(&["create", "secret", "generic", "shared", "-n", namespace, "--from-literal=password=swordfish"]);
    // A node without a kubelet: an exec begins, and fails when the API server turns to the node.
    let node = format!("{namespace}-node");
    let status =
        json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}});
    kube.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": status}).to_string());
    kube.create(&pod(namespace, "target", Some(&node)));
    // A watch hands out everything when it starts, and is written at its start and at its end.
    kube.admin(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/secrets?watch=true&timeoutSeconds=1")]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let n_done = next.fetch_add(1, Ordering::Relaxed);
                    if n_done >= n {
                        return;
                    }
                    operation(kube, namespace, n_done);
                }
            });
        }
    });
}

fn pod(namespace: &str, name: &str, node: Option<&str>) -> String {
    let containers = json!([{"name": "main", "image": "registry.example.com/main:1", "command": ["sleep", "1000"]}]);
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node, "containers": containers}}).to_string()
}

/// The operation of this number. It stands alone: nothing of another one is needed.
fn operation(kube: &Kube, namespace: &str, number: usize) {
    let name = format!("thing-{number}");
    let worker = format!("system:serviceaccount:{namespace}:worker");
    let patch = |kind: &str| match kind {
        "json" => json!([{"op": "add", "path": "/metadata/annotations", "value": {"n": name}}]).to_string(),
        _ => json!({"metadata": {"labels": {"n": name}}}).to_string(),
    };
    let does = |who, args: &[&str]| call(kube, namespace, who, args, "", true);
    let fails = |who, args: &[&str]| call(kube, namespace, who, args, "", false);
    match number % 20 {
        0 => does(Who::Admin, &["create", "configmap", &name, "--from-literal=a=b"]),
        1 => does(Who::Admin, &["patch", "pod", "target", "--type=strategic", "-p", &patch("strategic")]),
        2 => does(Who::Admin, &["patch", "configmap", "shared", "--type=merge", "-p", &patch("merge")]),
        3 => does(Who::Admin, &["patch", "role", "shared", "--type=json", "-p", &patch("json")]),
        4 => does(Who::Admin, &["create", "secret", "generic", &name, "--from-literal=password=swordfish"]),
        5 => does(Who::Admin, &["get", "secret", "shared", "-o", "name"]),
        6 => does(Who::Admin, &["get", "secrets", "-A"]),
        7 => fails(Who::Admin, &["exec", "target", "--", "cat", "/etc/shadow"]),
        8 => does(Who::Admin, &["get", "pods", "--as=alice", "--as-group=system:masters"]),
        9 => fails(Who::Admin, &["delete", "pod", "target", &format!("--as={worker}")]),
        10 => fails(Who::Dev, &["get", "secrets"]),
        11 => fails(Who::Dev, &["create", "clusterrolebinding", &name, "--clusterrole=cluster-admin", "--user=dev"]),
        12 => fails(Who::Anonymous, &["get", "pods"]),
        13 => fails(Who::Stranger, &["get", "nodes"]),
        14 => does(Who::Admin, &["create", "role", &name, "--verb=*", "--resource=pods,secrets"]),
        15 => does(Who::Admin, &["create", "rolebinding", &name, "--role=any", &format!("--serviceaccount={namespace}:worker")]),
        16 => does(Who::Admin, &["create", "clusterrolebinding", &format!("{namespace}-{name}"), "--clusterrole=view", "--user=dev"]),
        17 => does(Who::Admin, &["create", "token", "worker"]),
        18 => does(Who::Dev, &["auth", "can-i", "--list"]),
        _ => {
            call(kube, namespace, Who::Admin, &["create", "-f", "-"], &pod(namespace, &name, None), true);
            does(Who::Admin, &["delete", "pod", &name, "--wait=false"]);
        }
    }
}

fn call(kube: &Kube, namespace: &str, who: Who, args: &[&str], input: &str, succeeds: bool) {
    let output = kube.kubectl_with(who, &[&["-n", namespace], args].concat(), input);
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.success(), succeeds, "kubectl {args:?} as {who:?}: {said}");
}
