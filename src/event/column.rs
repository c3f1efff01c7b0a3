//! The table of columns: what an event has, in the order in which it is stored.
//!
//! Columns are only ever added, at the end (EVENT.md, Columns).

/// How a column's values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Milliseconds since 1970, UTC.
    Time,
    /// A signed 64-bit number.
    Int,
    /// True or false.
    Bool,
    /// A list of texts.
    List,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in Parquet.
    pub name: &'static str,
    /// Its name in a filter and its place in JSON: members joined by dots.
    pub path: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// Looked up by value often enough to keep a Bloom filter.
    pub bloom: bool,
    /// What it says, for the published schema.
    pub doc: &'static str,
    /// `,"name":`, as its member starts in JSON.
    pub json_key: &'static str,
}

/// The column that repeats a member of a `CloudTrail` record, where the member is a text and the record is of one call.
pub fn repeating(member: &str) -> Option<Col> {
    Some(match member {
        "eventName" => Col::Action,
        "eventSource" => Col::Service,
        "errorCode" => Col::Error,
        "errorMessage" => Col::ErrorMessage,
        "userAgent" => Col::UserAgent,
        _ => return None,
    })
}

macro_rules! columns {
    ($($id:ident $kind:ident $bloom:literal $name:literal $path:literal $doc:literal;)*) => {
        /// A column's number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Col { $(#[doc = $doc] $id),* }
        /// Every column, by number.
        pub const COLUMNS: &[Column] = &[$(Column { name: $name, path: $path, kind: Kind::$kind, bloom: $bloom, doc: $doc, json_key: concat!(",\"", $name, "\":") }),*];
        /// Every column's number, in order.
        pub const ALL: &[Col] = &[$(Col::$id),*];
    };
}

columns! {
    Id Text true "_id" "_id" "UUID, version 5, of the event's identity.";
    Fingerprint Text false "fingerprint" "fingerprint" "64-bit hash, in hex, of what the event says.";
    InsertTime Time false "_insert_time" "_insert_time" "When it was collected (committed), ms; retention counts from it.";
    EventTime Time false "event_time" "event_time" "When it happened, ms UTC. `timestamp` is the same.";
    EventType Text false "event_type" "event_type" "`cloudtrail`, `kubernetesAudit`, `kubernetesConfig`, `kubernetesEvent`, or a host sensor's.";
    OrganizationId Text false "organization_id" "organization_id" "The organization, from configuration.";
    AgentId Text false "agent_id" "agent_id" "The collecting source, stable across restarts.";
    OriginSource Text false "origin_source" "origin.source" "The name of the source that collected it.";
    OriginUri Text false "origin_uri" "origin.uri" "The object or file that it came from.";
    OriginIndex Int false "origin_index" "origin.index" "The record's position in that object, from 0.";
    CloudProvider Text false "provider_metadata_cloud_provider" "provider_metadata.cloud_provider" "`aws` or `kubernetes`.";
    AccountId Text false "provider_metadata_account_id" "provider_metadata.account_id" "Whose trail: `recipientAccountId`.";
    ActorAccountId Text false "provider_metadata_actor_account_id" "provider_metadata.actor_account_id" "Who called: `userIdentity.accountId`.";
    Region Text false "provider_metadata_region" "provider_metadata.region" "The AWS region.";
    Cluster Text false "provider_metadata_cluster" "provider_metadata.cluster" "The Kubernetes cluster.";
    AvailabilityZone Text false "provider_metadata_availability_zone" "provider_metadata.availability_zone" "The availability zone.";
    RuleMatches List false "alert_metadata_rule_matches" "alert_metadata.rule_matches" "Ids of the rules that matched.";
    MatchState Text false "alert_metadata_match_state" "alert_metadata.match_state" "`UNMATCHED`, `MATCHED` or `SUPPRESSED`.";
    NumMatched Int false "alert_metadata_num_matched" "alert_metadata.num_matched" "How many rules matched.";
    NumSuppressed Int false "alert_metadata_num_suppressed" "alert_metadata.num_suppressed" "How many matches a suppression hid.";
    FlagNames List false "flags" "flags" "What is unusual about the event.";
    User Text true "user" "user" "The lasting principal: user, role, service or `root`.";
    SessionName Text true "session_name" "session_name" "The session part of an assumed role.";
    SourceIdentity Text false "source_identity" "source_identity" "`sourceIdentity` of the session.";
    UserType Text false "user_type" "user_type" "`userIdentity.type`; in Kubernetes `ServiceAccount`, `Node`, `Anonymous`, `User`.";
    UserId Text false "user_id" "user_id" "ARN, else the principal's id.";
    UserGroups List false "user_groups" "user_groups" "The caller's groups.";
    ImpersonatedUser Text false "impersonated_user" "impersonated_user" "On whose behalf the caller acted.";
    AccessKey Text true "access_key" "access_key" "The access key id: it joins the two planes.";
    Mfa Bool false "mfa" "mfa" "Whether the session was made with a second factor.";
    Ip Text true "ip" "ip" "The caller's address, when it is one.";
    SrcHost Text false "src_host" "src_host" "Where the call came from, when that is not an address.";
    UserAgent Text false "user_agent" "user_agent" "The caller's program, as it says.";
    Service Text false "service" "service" "`eventSource`; in Kubernetes the API group.";
    Action Text true "action" "action" "`eventName`; in Kubernetes the verb.";
    Activity Text false "activity" "activity" "create, read, update, delete, login, assume, execute, grant or other.";
    TargetKind Text false "target_kind" "target_kind" "secret, identity, policy, key, network, compute, storage, database, logging, cluster or other.";
    Resource Text false "resource" "resource" "The type of the first resource.";
    Name Text true "name" "name" "ARN or name of the first resource.";
    ResourcesType List false "resources_type" "resources.type" "Types of the resources; empty where one has none.";
    ResourcesName List false "resources_name" "resources.name" "Names of the resources.";
    ResourcesArn List false "resources_arn" "resources.arn" "ARNs of the resources.";
    ResourcesAccountId List false "resources_account_id" "resources.account_id" "Accounts of the resources.";
    Namespace Text false "namespace" "namespace" "The Kubernetes namespace.";
    NodeName Text false "node_name" "node_name" "The node of a `system:node:` caller or target.";
    Type Text false "type" "type" "The stage of an audit event; the kind of a watched object; the state of an Insight.";
    ReadOnly Bool false "read_only" "read_only" "Whether the call changes nothing.";
    Outcome Text false "outcome" "outcome" "success, failure or denied.";
    Error Text false "error" "error" "`errorCode`; in Kubernetes the status reason.";
    ErrorMessage Text false "error_message" "error_message" "What the error said.";
    StatusCode Int false "status_code" "status_code" "The HTTP status of a Kubernetes response.";
    RoleName Text false "role_name" "role_name" "The role that a binding names.";
    RoleType Text false "role_type" "role_type" "`Role` or `ClusterRole`.";
    Verbs List false "verbs" "verbs" "All verbs of a role's rules.";
    Raw Text false "raw" "raw" "The native record, secrets masked.";
    RawText Text false "raw_text" "raw_text" "What was salvaged of a record that is not JSON.";
    FieldsVersion Int false "fields_version" "fields_version" "The version of this set of columns.";
    AccountName Text false "provider_metadata_account_name" "provider_metadata.account_name" "The account's display name, from configuration.";
    Labels List false "labels" "labels" "The account's labels from configuration, `key=value`.";
}

impl Col {
    /// The table's entry.
    pub fn info(self) -> &'static Column {
        &COLUMNS[self as usize]
    }

    /// The column with that path, `timestamp` included.
    pub fn by_path(path: &str) -> Option<Self> {
        let path = if path == "timestamp" { "event_time" } else { path };
        ALL.iter().copied().find(|col| col.info().path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_paths_are_unique_and_agree() {
        let names: HashSet<_> = COLUMNS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        for column in COLUMNS {
            assert_eq!(column.name, column.path.replace('.', "_"));
            assert_eq!(Col::by_path(column.path).map(|col| col.info().name), Some(column.name));
        }
    }
}
