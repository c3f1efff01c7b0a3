//! An event in memory, and what everything that holds events can be asked for.

use super::{Col, EventId, Flags, column};
use std::borrow::Cow;

/// The kinds of event that we make ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A `CloudTrail` record.
    CloudTrail,
    /// An audit event of a Kubernetes API server.
    KubernetesAudit,
    /// A change of an object that a watch on a Kubernetes API server saw.
    KubernetesConfig,
    /// A core Event of Kubernetes: what its components say about objects.
    KubernetesEvent,
    /// What a host sensor says. Which sensor stands in the event: `audit`, `login`, `winsec`, … as received.
    Host,
}

impl EventType {
    /// All types. A log frame has a type's place here: new ones are added at the end.
    pub const ALL: &'static [Self] = &[Self::CloudTrail, Self::KubernetesAudit, Self::KubernetesConfig, Self::KubernetesEvent, Self::Host];

    /// The name in `event_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CloudTrail => "cloudtrail",
            Self::KubernetesAudit => "kubernetesAudit",
            Self::KubernetesConfig => "kubernetesConfig",
            Self::KubernetesEvent => "kubernetesEvent",
            Self::Host => "host",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.name() == name)
    }
}

/// One value of a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Val<'a> {
    /// The source does not state it.
    #[default]
    Null,
    /// A text.
    Text(Cow<'a, str>),
    /// A number, or a time in ms.
    Int(i64),
    /// True or false.
    Bool(bool),
}

impl<'a> Val<'a> {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text that outlives the event.
    pub fn of(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

/// Anything that holds one event: a normalized record, or a row of the store.
pub trait Row {
    /// The event's identity.
    fn id(&self) -> EventId;
    /// What it says, hashed.
    fn fingerprint(&self) -> u64;
    /// A bit for each column (by its number) that may have a value: the others need not be asked for.
    fn present(&self) -> u64 {
        u64::MAX
    }
    /// Calls `each` with type, name, ARN and account of every resource; absent parts are empty.
    fn resources(&self, each: &mut dyn FnMut([&str; 4]));
    /// Which kind it is.
    fn event_type(&self) -> EventType;
    /// The nodes of the native record, where they are at hand: else whoever needs them scans it.
    fn tape(&self) -> Option<&crate::json::Tape> {
        None
    }
    /// The members that the whole delivery shares, up to `"index":`, ready to write. None: to be made from the columns.
    fn shared_json(&self) -> Option<&str> {
        None
    }
    /// The value of a column that is not a list.
    fn val(&self, col: Col) -> Val<'_>;
    /// The text of a column of texts between `User` and `Verbs`.
    fn text(&self, col: Col) -> Option<&str>;
    /// Where this text stands in the native record, which is then given too, if it does: it needs no escapes in JSON.
    fn spelled(&self, _text: &str) -> Option<(&str, usize)> {
        None
    }
    /// Whether the columns that [`column::repeating`] names, where they are texts, stand in those very members.
    fn repeats_members(&self) -> bool {
        false
    }
    /// Calls `each` with every text of a list column.
    fn list(&self, col: Col, each: &mut dyn FnMut(&str));
}

/// One resource that a record names. Absent parts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Its type, as `CloudFormation` or Kubernetes names it.
    pub kind: Cow<'a, str>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its ARN.
    pub arn: Cow<'a, str>,
    /// The account that owns it.
    pub account_id: Cow<'a, str>,
}

/// What an operator says of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Its display name.
    pub name: Option<String>,
    /// `key=value` texts.
    pub labels: Vec<String>,
}

/// What all events of one delivery have in common.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// From configuration.
    pub organization_id: String,
    /// The source's stable id.
    pub agent_id: String,
    /// The source's name.
    pub source: String,
    /// Where the bytes came from.
    pub uri: String,
    /// The Kubernetes cluster, from configuration.
    pub cluster: String,
    /// The account that the object's key names, to compare records with.
    pub key_account: Option<String>,
    /// What is known of accounts.
    pub accounts: std::sync::Arc<std::collections::HashMap<String, Label>>,
    /// When the delivery was taken up, ms: stands in for missing event times.
    pub now_ms: i64,
    /// Filled by [`Context::render`].
    pub shared_json: String,
}

impl Context {
    /// Writes down once what every event of the delivery would write again.
    #[must_use]
    pub fn render(mut self) -> Self {
        let mut out = Vec::new();
        super::json::shared(&self.organization_id, &self.agent_id, &self.source, &self.uri, &mut out);
        self.shared_json = String::from_utf8(out).unwrap_or_default();
        self
    }
}

/// One event, borrowing from the record that it was made of.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The event's identity.
    pub id: EventId,
    /// What it says, hashed.
    pub fingerprint: u64,
    /// When it happened, ms.
    pub event_time: i64,
    /// Which kind it is.
    pub event_type: EventType,
    /// What is unusual about it.
    pub flags: Flags,
    /// Position in its object.
    pub index: u64,
    /// What it shares with its neighbours.
    pub context: &'a Context,
    /// What is known of its account.
    pub label: Option<&'a Label>,
    /// The resources that it names.
    pub resources: Vec<Resource<'a>>,
    /// The caller's groups.
    pub groups: Vec<Cow<'a, str>>,
    /// All verbs of a role's rules, each once.
    pub verbs: Vec<Cow<'a, str>>,
    /// Ids of the rules that match it.
    pub rule_matches: Vec<String>,
    /// How many of them are hidden by a suppression.
    pub suppressed: usize,
    /// `raw`: compact, masked. Empty where the record is not JSON.
    pub raw: Cow<'a, str>,
    /// `raw_text`: what was left of a record that is not JSON, masked.
    pub raw_text: Option<String>,
    /// What a host event says of itself that is ours to say otherwise.
    pub sensor: Option<Sensor<'a>>,
    /// Its nodes.
    pub tape: Option<&'a crate::json::Tape>,
    /// Whether the columns that [`column::repeating`] names, where they are texts, stand in those very members.
    pub repeats_members: bool,
    vals: [Val<'a>; FREE],
    present: u64,
}

/// Paths of addresses in host events, beside the caller's own: `ip` in a filter means any of them (EVENT.md, aliases).
pub const HOST_ADDRESS_PATHS: &[&[&str]] =
    &[&["src_ip"], &["dst_ip"], &["connection", "addr"], &["connection", "src_addr"], &["connection", "dst_addr"]];

/// Of a host event: what other events have from us.
#[derive(Debug, Clone)]
pub struct Sensor<'a> {
    /// `event_type`, as received.
    pub event_type: Cow<'a, str>,
    /// `agent_id`, as received.
    pub agent_id: Option<Cow<'a, str>>,
}

/// The columns from `User` to `Verbs`: those that a normalizer sets one by one.
const FREE_FROM: usize = Col::CloudProvider as usize;
const FREE_TO: usize = Col::Raw as usize;
const FREE: usize = FREE_TO - FREE_FROM;

impl<'a> Event<'a> {
    /// An event of which nothing is known yet.
    pub fn new(event_type: EventType, context: &'a Context, index: u64, raw: Cow<'a, str>) -> Self {
        Self {
            id: EventId::default(),
            fingerprint: 0,
            event_time: 0,
            event_type,
            flags: Flags::default(),
            index,
            context,
            label: None,
            resources: Vec::new(),
            groups: Vec::new(),
            verbs: Vec::new(),
            rule_matches: Vec::new(),
            suppressed: 0,
            raw,
            raw_text: None,
            sensor: None,
            tape: None,
            repeats_members: false,
            vals: [const { Val::Null }; FREE],
            present: 0,
        }
    }

    /// Sets a column between `CloudProvider` and `Verbs`; others are fields of their own.
    pub fn set(&mut self, col: Col, val: Val<'a>) {
        if let Some(slot) = (col as usize).checked_sub(FREE_FROM).and_then(|at| self.vals.get_mut(at)) {
            *slot = val;
            self.present |= 1 << col as u64;
        }
    }

    /// Sets a text, where there is one.
    pub fn set_text(&mut self, col: Col, text: Option<Cow<'a, str>>) {
        if let Some(text) = text {
            self.set(col, Val::Text(text));
        }
    }

    /// The value of a column that was set.
    pub fn get(&self, col: Col) -> &Val<'a> {
        const NULL: Val<'static> = Val::Null;
        (col as usize).checked_sub(FREE_FROM).and_then(|at| self.vals.get(at)).unwrap_or(&NULL)
    }

    /// The sensor's name, of a host event.
    pub fn sensor_name(&self) -> Option<&str> {
        self.sensor.as_ref().map(|it| &*it.event_type)
    }

    /// `agent_id`: the collecting source's, or the one that a host event states.
    pub fn agent_id(&self) -> &str {
        self.sensor.as_ref().and_then(|it| it.agent_id.as_deref()).unwrap_or(&self.context.agent_id)
    }

    /// `match_state`.
    pub fn match_state(&self) -> &'static str {
        match self.rule_matches.len() {
            0 => "UNMATCHED",
            all if all == self.suppressed => "SUPPRESSED",
            _ => "MATCHED",
        }
    }

    /// Every column that was set one by one, with its value.
    pub fn set_columns(&self) -> impl Iterator<Item = (Col, &Val<'a>)> {
        column::ALL[FREE_FROM..FREE_TO].iter().copied().zip(&self.vals).filter(|(_, val)| **val != Val::Null)
    }
}

fn borrowed<'v, 'a: 'v>(val: &'v Val<'a>) -> Val<'v> {
    match val {
        Val::Text(text) => Val::Text(Cow::Borrowed(text)),
        Val::Null => Val::Null,
        Val::Int(n) => Val::Int(*n),
        Val::Bool(b) => Val::Bool(*b),
    }
}

impl Row for Event<'_> {
    fn id(&self) -> EventId {
        self.id
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn resources(&self, each: &mut dyn FnMut([&str; 4])) {
        self.resources.iter().for_each(|it| each([&it.kind, &it.name, &it.arn, &it.account_id]));
    }

    fn event_type(&self) -> EventType {
        self.event_type
    }

    fn tape(&self) -> Option<&crate::json::Tape> {
        self.tape
    }

    fn repeats_members(&self) -> bool {
        self.repeats_members
    }

    fn present(&self) -> u64 {
        let list = |is_empty: bool, col: Col| if is_empty { 0 } else { 1 << col as u64 };
        self.present
            | list(self.resources.is_empty(), Col::ResourcesType)
            | list(self.groups.is_empty(), Col::UserGroups)
            | list(self.verbs.is_empty(), Col::Verbs)
    }

    fn shared_json(&self) -> Option<&str> {
        // A host event has an agent of its own, which the delivery does not share.
        Some(&self.context.shared_json).filter(|it| !it.is_empty() && self.sensor.is_none()).map(String::as_str)
    }

    fn val(&self, col: Col) -> Val<'_> {
        match col {
            Col::Id => Val::Text(Cow::Owned(self.id.to_string())),
            Col::Fingerprint => Val::Text(Cow::Owned(format!("{:016x}", self.fingerprint))),
            Col::InsertTime => Val::Int(self.context.now_ms),
            Col::EventTime => Val::Int(self.event_time),
            Col::EventType => Val::of(self.sensor_name().unwrap_or_else(|| self.event_type.name())),
            Col::OrganizationId if !self.context.organization_id.is_empty() => Val::of(&self.context.organization_id),
            Col::AgentId => Val::of(self.agent_id()),
            Col::OriginSource => Val::of(&self.context.source),
            Col::OriginUri => Val::of(&self.context.uri),
            Col::OriginIndex => Val::Int(self.index as i64),
            Col::MatchState => Val::of(self.match_state()),
            Col::NumMatched => Val::Int(self.rule_matches.len() as i64),
            Col::NumSuppressed => Val::Int(self.suppressed as i64),
            Col::Raw if !self.raw.is_empty() => Val::of(&self.raw),
            Col::RawText => self.raw_text.as_deref().map_or(Val::Null, Val::of),
            Col::FieldsVersion => Val::Int(super::FIELDS_VERSION),
            Col::AccountName => self.label.and_then(|it| it.name.as_deref()).map_or(Val::Null, Val::of),
            col => borrowed(self.get(col)),
        }
    }

    fn text(&self, col: Col) -> Option<&str> {
        self.get(col).text()
    }

    fn spelled(&self, text: &str) -> Option<(&str, usize)> {
        // A text with escapes was decoded into memory of its own; what borrows from the record has none.
        let at = (text.as_ptr() as usize).checked_sub(self.raw.as_ptr() as usize)?;
        (at + text.len() <= self.raw.len()).then_some((&*self.raw, at))
    }

    fn list(&self, col: Col, each: &mut dyn FnMut(&str)) {
        match col {
            Col::FlagNames => self.flags.names().for_each(each),
            Col::RuleMatches => self.rule_matches.iter().for_each(|it| each(it)),
            Col::UserGroups => self.groups.iter().for_each(|it| each(it)),
            Col::Verbs => self.verbs.iter().for_each(|it| each(it)),
            Col::ResourcesType => self.resources.iter().for_each(|it| each(&it.kind)),
            Col::ResourcesName => self.resources.iter().for_each(|it| each(&it.name)),
            Col::ResourcesArn => self.resources.iter().for_each(|it| each(&it.arn)),
            Col::ResourcesAccountId => self.resources.iter().for_each(|it| each(&it.account_id)),
            Col::Labels => self.label.into_iter().flat_map(|it| &it.labels).for_each(|it| each(it)),
            _ => {}
        }
    }
}
