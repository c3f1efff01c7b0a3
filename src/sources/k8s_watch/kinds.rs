//! What can be watched: the objects that decide who may do what, and core Events.

/// One kind of object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// As `kubectl api-resources` names it, and as audit events do.
    pub(super) resource: &'static str,
    /// The API group; empty for the core group.
    pub(super) group: &'static str,
    /// The group's version.
    pub(super) version: &'static str,
    /// The kind that an object states.
    pub(super) stated: &'static str,
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

const fn kind(resource: &'static str, group: &'static str, stated: &'static str) -> Kind {
    Kind { resource, group, version: "v1", stated }
}

/// All kinds.
const KINDS: &[Kind] = &[
    kind("namespaces", "", "Namespace"),
    kind("pods", "", "Pod"),
    kind("serviceaccounts", "", "ServiceAccount"),
    kind("roles", RBAC, "Role"),
    kind("rolebindings", RBAC, "RoleBinding"),
    kind("clusterroles", RBAC, "ClusterRole"),
    kind("clusterrolebindings", RBAC, "ClusterRoleBinding"),
    kind("validatingwebhookconfigurations", ADMISSION, "ValidatingWebhookConfiguration"),
    kind("mutatingwebhookconfigurations", ADMISSION, "MutatingWebhookConfiguration"),
    kind("validatingadmissionpolicies", ADMISSION, "ValidatingAdmissionPolicy"),
    kind("validatingadmissionpolicybindings", ADMISSION, "ValidatingAdmissionPolicyBinding"),
    kind("events", "", "Event"),
];

/// The names of all kinds.
pub(super) fn names() -> Vec<String> {
    KINDS.iter().map(|it| it.resource.to_owned()).collect()
}

impl Kind {
    /// The kind of that name.
    pub(super) fn named(resource: &str) -> Option<&'static Self> {
        KINDS.iter().find(|it| it.resource == resource)
    }

    /// Where the API server has all objects of the kind.
    pub(super) fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}/{}", self.version, self.resource),
            group => format!("/apis/{group}/{}/{}", self.version, self.resource),
        }
    }

    /// As an object states its group and version.
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether clusters that are still supported may lack it: it came with 1.30.
    pub(super) fn is_recent(&self) -> bool {
        self.resource.starts_with("validatingadmissionpolic")
    }

    /// Whether the end of one is worth an event. Core Events end by themselves, an hour after they were last counted.
    pub(super) fn is_deletion_news(&self) -> bool {
        self.resource != "events"
    }
}
