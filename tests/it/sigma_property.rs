//! Random Sigma rules over random `CloudTrail` records: the loader and the engine against [`crate::sigma_naive`]. Where we
//! differ from the specification on purpose, or do not yet agree with it, the generator says what it leaves out.

use crate::sigma_naive::{Condition, Rule};
use crate::support::{judge, root};
use planewatch::filter::Lists;
use planewatch::rules::{RuleSet, Source, load};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Select, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// Texts with `, ` between them.
type Words = &'static str;

/// Texts of records: the first few stand in half of the places, so that rules match.
const COMMON: Words = "a, ab, A, 5";
const TEXTS: Words = ", aB, abc, bab, é, É, a*b, a?b, a\\b, a\\*b, 1.5, -3, true, null, 192.0.2.7, x -a, a zebra, Quokka 4711, a\nb";
const CALLS: Words = "RunInstances, runinstances, ListBuckets, Créer";
const SERVICES: Words = "ec2.amazonaws.com, EC2.amazonaws.com, iam.amazonaws.com, a";
/// Options; base64 of `a`, `ab`, `abc`, `xab`, `xxabc`.
const CODES: Words = "-a, /A, x –a, /a -b, -A ―b, --a b-a, YQ==, YWI=, YWJj, eGFi, eHhhYmM=";
const ADDRESSES: Words = "10.1.2.3, 10.200.0.1, 192.0.2.7, 2001:db8::5";
const NUMBERS: Words = "0, 1, 5, -3, 1.5, 12, 4711";

/// What keywords look for. No name of a member holds one.
const KEYWORDS: Words = "zebra, ZEBRA, z?bra, quok, QUOKKA 4, 4711, amazonaws, unlisted, Créer, CRÉER";
const CALL_PATTERNS: Words = "RUN*, ListBuckets, créer, runinstances, ?un*S";
const SERVICE_PATTERNS: Words = ".amazonaws.com, EC2, iam., a";
const LOOSE: Words = "a*, *b, A, aB, 5, *";
const PATTERNS: Words = r", a, AB, b, a*b, A?B, a\*b, a\?b, a\b, a\\b, a\\*b, a\\\*b, ?, ??, é, É*, 1.5, TRUE, null, 1*, run*, *.com";
const REGEXES: Words = "^a, b$, a.b, ^ab*c, ^.*$, A, é, ^$, 1.5, Run, amazonaws";
const NETWORKS: Words = "10.0.0.0/8, 10.1.2.3/32, 192.0.2.0/28, 0.0.0.0/0, 2001:db8::/32, ::/0";

const PATHS: Words = "eventName, eventSource, errorCode, sourceIPAddress, userIdentity.type, additionalEventData.tags, \
    requestParameters.a, requestParameters.a.b, requestParameters.c, requestParameters.c.d, requestParameters.n, responseElements.b";
/// Where records never hold objects: two of them are equal to us where they are spelled alike.
const PLAIN_PATHS: Words = "eventName, eventSource, errorCode, sourceIPAddress, userIdentity.type, additionalEventData.tags";
const CODE_PATHS: Words = "errorCode, errorCode, errorCode, requestParameters.a";
const ADDRESS_PATHS: Words = "sourceIPAddress, sourceIPAddress, sourceIPAddress, requestParameters.c";
const NUMBER_PATHS: Words = "requestParameters.n, requestParameters.n, requestParameters.n, requestParameters.a";

const TEXT_MODIFIERS: Words = "|contains, |startswith, |endswith, |contains|cased, |startswith|cased, |endswith|cased, \
    |contains|all, |endswith|all, |contains|all|cased, |contains|neq, |endswith|neq, |startswith|all|neq";
const EQUAL_MODIFIERS: Words = "|cased, |neq, |all, |cased|all";
const REGEX_MODIFIERS: Words = "|re, |re|i, |re|all, |re|s";
const ORDER_MODIFIERS: Words = "|lt, |lte, |gt, |gte";
const FIELD_MODIFIERS: Words = "|fieldref, |fieldref|startswith, |fieldref|endswith, |fieldref|contains, |fieldref|cased, |fieldref|neq";
const BASE64_MODIFIERS: Words = "|base64, |base64|contains|cased, |base64offset|contains";
const KEYWORD_MODIFIERS: Words = "|all, |all|cased, |cased, |neq";

/// The searches of a rule: the first so many of them.
const NAMES: &[&str] = &["sel_a", "other_a", "sel_b", "_hidden"];
/// None of them is like `_hidden`: to us a pattern names what starts with `_` as well.
const NAME_PATTERNS: Words = "them, sel*, sel_a, *_a, s*a";
const QUANTIFIERS: &[(&str, bool)] = &[("1", false), ("any", false), ("1", false), ("all", true)];

fn words(of: Words) -> Select<&'static str> {
    select(of.split(", ").collect::<Vec<_>>())
}

fn texts(of: Words) -> BoxedStrategy<Value> {
    words(of).prop_map(Value::from).boxed()
}

fn numbers() -> BoxedStrategy<Value> {
    words(NUMBERS).prop_map(|it| serde_json::from_str::<Value>(it).unwrap()).boxed()
}

fn booleans() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn leaf() -> BoxedStrategy<Value> {
    prop_oneof![6 => texts(COMMON), 6 => texts(TEXTS), 3 => numbers(), 2 => booleans(), 2 => Just(Value::Null)].boxed()
}

/// Mostly one of those that belong there.
fn mostly(these: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![2 => these, 1 => leaf()].boxed()
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    Value::Object(members.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?))).collect())
}

fn value(depth: u32) -> BoxedStrategy<Value> {
    if depth == 0 {
        return leaf();
    }
    let inner = value(depth - 1);
    let list = vec(inner.clone(), 0..4).prop_map(Value::from);
    let members = (weighted(0.75, inner.clone()), weighted(0.75, inner)).prop_map(|(b, d)| object([("b", b), ("d", d)]));
    prop_oneof![6 => leaf(), 2 => list, 2 => members].boxed()
}

fn record() -> BoxedStrategy<Value> {
    let maybe = |it: BoxedStrategy<Value>| weighted(0.8, it);
    let request = (maybe(value(3)), maybe(value(3)), maybe(mostly(numbers())));
    let request = request.prop_map(|(a, c, n)| object([("a", a), ("c", c), ("n", n)])).boxed();
    let request = prop_oneof![4 => request.clone(), 1 => request.prop_map(|it| Value::from(vec![it.clone(), it])), 1 => leaf()];
    let identity = leaf().prop_map(|it| json!({ "type": it })).boxed();
    let tags = vec(leaf(), 0..4).prop_map(|it| json!({ "tags": it })).boxed();
    let head = (maybe(mostly(texts(CALLS))), maybe(mostly(texts(SERVICES))), maybe(mostly(texts(CODES))), maybe(mostly(texts(ADDRESSES))));
    // Names that differ from others in their case alone are other names.
    let decoys = (weighted(0.3, texts(CALLS)), weighted(0.3, mostly(texts(CODES))));
    let all = (head, decoys, request, maybe(identity), maybe(value(2)), maybe(tags));
    let all = all.prop_map(|((call, service, code, address), (other_call, other_code), request, identity, response, tags)| {
        object([
            ("eventVersion", Some("1.11".into())),
            ("eventTime", Some("2026-01-02T03:04:05Z".into())),
            ("eventName", call),
            ("EventName", other_call),
            ("eventSource", service),
            ("errorCode", code),
            ("ERRORCODE", other_code),
            ("sourceIPAddress", address),
            ("userIdentity", identity),
            ("requestParameters", Some(request)),
            ("responseElements", response),
            ("additionalEventData", tags),
        ])
    });
    all.boxed()
}

/// How a record is written down: all mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Plain,
    /// The first character of names and texts as `\u…`.
    Escaped,
    /// Each member twice; the last one stands.
    Twice,
}

fn spellings() -> Select<Spelling> {
    select(vec![Spelling::Plain, Spelling::Escaped, Spelling::Twice])
}

fn spelled(value: &Value, how: Spelling) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, it)| {
                let name = quoted(name, how);
                let before = if how == Spelling::Twice { format!("{name}:\"decoy\",") } else { String::new() };
                format!("{before}{name}:{}", spelled(it, how))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(|it| spelled(it, how)).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text, how),
        other => other.to_string(),
    }
}

fn quoted(text: &str, how: Spelling) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) if how == Spelling::Escaped => {
            format!("\"\\u{:04x}{}", u32::from(first), &Value::from(rest.as_str()).to_string()[1..])
        }
        _ => Value::from(text).to_string(),
    }
}

/// A value or a list of some.
fn some(one: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![1 => one.clone(), 5 => vec(one, 1..4).prop_map(Value::from)].boxed()
}

fn on(paths: Words, modifiers: Words, values: BoxedStrategy<Value>) -> BoxedStrategy<(String, Value)> {
    (words(paths), words(modifiers), values).prop_map(|(path, modifiers, it)| (format!("{path}{modifiers}"), it)).boxed()
}

fn patterns() -> BoxedStrategy<Value> {
    prop_oneof![texts(LOOSE), texts(PATTERNS)].boxed()
}

/// A field, its modifiers, and its values. Null is nothing to the naive evaluator, as it is to us, and `exists` asks for
/// something. Left out: networks and times as texts, numbers in two spellings, letters whose lower case depends on their place,
/// modifiers that do not go together, names of members with dots.
fn item() -> BoxedStrategy<(String, Value)> {
    let scalars = prop_oneof![10 => patterns(), 2 => numbers(), 1 => booleans(), 1 => Just(Value::Null)].boxed();
    prop_oneof![
        1 => on("eventName", "", some(texts(CALL_PATTERNS))),
        1 => on("eventSource", "|endswith, |contains", some(texts(SERVICE_PATTERNS))),
        2 => on(PATHS, "", some(scalars)),
        2 => on(PATHS, TEXT_MODIFIERS, some(patterns())),
        1 => on(PATHS, EQUAL_MODIFIERS, some(patterns())),
        1 => on(PATHS, REGEX_MODIFIERS, some(texts(REGEXES))),
        1 => on(ADDRESS_PATHS, "|cidr", some(texts(NETWORKS))),
        1 => on(NUMBER_PATHS, ORDER_MODIFIERS, numbers()),
        1 => on(PATHS, "|exists", booleans()),
        1 => on(PLAIN_PATHS, FIELD_MODIFIERS, some(texts(PLAIN_PATHS))),
        1 => on(CODE_PATHS, "|windash, |windash|contains", some(texts("-a, /a, x -a, -a /b, --a b-a"))),
        1 => on(CODE_PATHS, BASE64_MODIFIERS, some(texts("ab, xab, abc"))),
    ]
    .boxed()
}

fn search() -> BoxedStrategy<Value> {
    let fields = prop_oneof![5 => vec(item(), 1), 3 => vec(item(), 2), 1 => vec(item(), 3)];
    let fields = fields.prop_map(|it| Value::Object(it.into_iter().collect())).boxed();
    let keywords = vec(texts(KEYWORDS), 1..4).prop_map(Value::from).boxed();
    let modified = (words(KEYWORD_MODIFIERS), keywords.clone()).prop_map(|(modifiers, it)| object([(modifiers, Some(it))]));
    prop_oneof![6 => fields.clone(), 2 => vec(fields, 1..4).prop_map(Value::from), 1 => keywords, 1 => modified].boxed()
}

fn condition(names: &'static [&'static str], depth: u32) -> BoxedStrategy<Condition> {
    let named = select(names).prop_map(Condition::Named).boxed();
    if depth == 0 {
        return named;
    }
    let of = (select(QUANTIFIERS), words(NAME_PATTERNS)).prop_map(|(quantifier, pattern)| Condition::Of(quantifier, pattern));
    let part = condition(names, depth - 1);
    let not = part.clone().prop_map(|it| Condition::Not(Box::new(it)));
    let joined = (prop::bool::weighted(0.33), prop::bool::weighted(0.2), vec(part, 2));
    let joined = joined.prop_map(|(all, loud, parts)| Condition::Joined { all, loud, parts });
    prop_oneof![1 => named, 2 => of, 2 => not, 3 => joined].boxed()
}

fn rule() -> BoxedStrategy<Rule> {
    let of = |n: usize| {
        let names = &NAMES[..n];
        let rule = (vec(search(), n), condition(names, 2));
        let rule = rule.prop_map(move |(searches, condition)| {
            let searches = names.iter().map(|it| (*it).to_owned()).zip(searches).collect();
            Rule { searches, condition }
        });
        rule.boxed()
    };
    prop_oneof![of(1), of(2), of(3), of(4)].boxed()
}

impl Condition {
    /// As a rule has it; `around` says how tightly what stands around it binds: `or` 0, `and` 1, `not` 2.
    fn written(&self, around: u8) -> String {
        match self {
            Self::Named(name) => (*name).to_owned(),
            Self::Of((quantifier, _), pattern) => format!("{quantifier} of {pattern}"),
            Self::Not(part) => format!("not {}", part.written(2)),
            Self::Joined { all, loud, parts } => {
                let word = match (all, loud) {
                    (true, false) => " and ",
                    (true, true) => " AND ",
                    (false, false) => " or ",
                    (false, true) => " OR ",
                };
                let text = parts.iter().map(|it| it.written(u8::from(*all))).collect::<Vec<_>>().join(word);
                if *loud || u8::from(*all) < around { format!("({text})") } else { text }
            }
        }
    }
}

fn document(id: &str, rule: &Rule, condition: &str) -> String {
    let mut detection = rule.searches.clone();
    detection.insert("condition".to_owned(), condition.into());
    format!("title: t\nid: {id}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection: {}\n", Value::Object(detection))
}

/// The rules of a file, as the product loads it.
fn loaded(documents: &[String]) -> RuleSet {
    let base = root().join("target/test-data");
    fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(base).unwrap();
    let text = documents.join("---\n");
    fs::write(folder.path().join("rules.yml"), &text).unwrap();
    let loaded = load(&[Source::Path(folder.path().to_owned())], &Lists::default());
    assert_eq!(loaded.problems, [], "{text}");
    assert_eq!(loaded.rules.len(), documents.len(), "{text}");
    RuleSet::new(loaded.rules)
}

/// The ids of the rules that match each of the records, which are read and asked about as `hunt` does.
fn matching(set: &RuleSet, records: &[Value], how: Spelling) -> Vec<BTreeSet<String>> {
    let texts: Vec<_> = records.iter().map(|it| spelled(it, how)).collect();
    let text = format!("{{\"Records\":[{}]}}", texts.join(","));
    let ids = judge::matching(set, &text);
    assert_eq!(ids.len(), records.len(), "{text}");
    ids
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Several rules in one set, since they share their tests, over several records, since some of what is known of one is kept.
    #[test]
    fn sigma_rules_match_what_the_specification_says(rules in vec(rule(), 1..5), records in vec(record(), 1..7), how in spellings()) {
        let documents: Vec<_> = rules.iter().enumerate().map(|(n, it)| document(&format!("r{n}"), it, &it.condition.written(0))).collect();
        let found = matching(&loaded(&documents), &records, how);
        for (record, found) in records.iter().zip(&found) {
            for (n, rule) in rules.iter().enumerate() {
                let is_found = found.contains(&format!("r{n}"));
                prop_assert_eq!(is_found, rule.holds(record), "\n{}{}", documents[n], spelled(record, how));
            }
        }
    }

    #[test]
    fn a_negated_sigma_rule_matches_exactly_what_the_rule_does_not(
        rule in rule(),
        records in vec(record(), 1..9),
        how in spellings(),
    ) {
        let condition = rule.condition.written(0);
        let documents = [document("as-is", &rule, &condition), document("negated", &rule, &format!("not ({condition})"))];
        for (record, found) in records.iter().zip(matching(&loaded(&documents), &records, how)) {
            prop_assert_eq!(found.len(), 1, "{:?}\n{}{}", found, documents[0], spelled(record, how));
        }
    }
}

/// Else the properties above would say little.
#[test]
fn random_sigma_rules_match_about_half_of_random_records() {
    let (pairs, mut runner) = ((rule(), record()), TestRunner::deterministic());
    let holds = |(rule, record): (Rule, Value)| rule.holds(&record);
    let matches = (0..2_000).filter(|_| holds(pairs.new_tree(&mut runner).unwrap().current())).count();
    assert!((500..1_500).contains(&matches), "{matches} of 2000");
}
