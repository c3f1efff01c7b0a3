//! The filter language on random filters and records: what is printed reads back, NOT is the complement, many filters at
//! once answer as each by itself, and no spelling of a record evades one.

use crate::support::judge::each_event;
use planewatch::filter::{Expr, Filter, Lists, Op, Path, Scratch, Segment, Test, Value, parse};
use planewatch::rules::{RuleSet, Source, load};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::fmt::Write;

fn text() -> impl Strategy<Value = String> {
    let common = select(vec!["RunInstances", "runinstances", "Run", "10.0.0.1", "10.0.0.0/8", "5", "true", "a\\b", "'\"", "", "ü*%"]);
    prop_oneof![4 => common.prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn path() -> impl Strategy<Value = Path> {
    let name = prop_oneof![
        5 => select(vec!["eventName", "user", "ip", "requestParameters", "a", "b", "c", "sourceIPAddress", "errorCode", "userAgent", "eventSource"]).prop_map(str::to_owned),
        1 => select(vec!["and", "in", "null", "with space", "q\"uote", "dot.ted", "9", "é"]).prop_map(str::to_owned),
    ];
    let segment = prop_oneof![5 => name.clone().prop_map(Segment::Name), 1 => (0_usize..3).prop_map(Segment::Index)];
    (name, vec(segment, 0..3)).prop_map(|(first, rest)| Path([vec![Segment::Name(first)], rest].concat()))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => text().prop_map(Value::Text),
        2 => select(vec!["5", "-1", "0.5", "1e3"]).prop_map(|it| Value::Number(it.to_owned())),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::List("people".to_owned())),
    ]
}

fn test() -> impl Strategy<Value = Expr> {
    let plain = select(vec![Op::Eq, Op::Ne, Op::Like, Op::StartsWith, Op::EndsWith]);
    let order = select(vec![Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let number = select(vec!["5", "-1", "2026-01-02T03:04:05Z"]).prop_map(|it| Value::Text(it.to_owned()));
    let set = vec(prop_oneof![5 => scalar(), 1 => Just(Value::Null)], 1..4).prop_map(Value::Set);
    let compared = prop_oneof![
        6 => (plain, scalar()),
        2 => (select(vec![Op::Eq, Op::Ne]), prop_oneof![Just(Value::Null), path().prop_map(Value::Field)]),
        2 => (order, number),
        3 => (select(vec![Op::In, Op::NotIn]), set),
        1 => (Just(Op::Matches), select(vec!["^Run", "a|b", "^$"]).prop_map(|it| Value::Text(it.to_owned()))),
    ];
    (path(), compared, any::<bool>()).prop_map(|(path, (op, value), nocase)| Expr::Test(Test { path, op, nocase, value, at: 0 }))
}

fn expr() -> impl Strategy<Value = Expr> {
    test().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(Expr::And),
            vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|it| Expr::Not(Box::new(it))),
        ]
    })
}

/// Members of a record, some of them missing, some of another kind than AWS writes.
fn record() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        6 => text().prop_map(serde_json::Value::from),
        1 => Just(json!(5)), 1 => Just(json!(true)), 1 => Just(json!(null)), 1 => Just(json!(["Run", "a", 5])), 1 => Just(json!({"a": "Run", "b": 5})),
    ];
    let inner = vec((select(vec!["a", "b", "c"]), leaf.clone()), 0..4).prop_map(|it| it.into_iter().collect::<serde_json::Value>());
    let top = select(vec!["eventName", "eventSource", "sourceIPAddress", "errorCode", "userAgent", "a", "b", "user"]);
    let elsewhere = json!({"eventName": "RunInstances", "eventSource": "Run", "errorCode": "a"});
    let members = prop_oneof![
        9 => vec((top.clone(), leaf.clone()), 0..6),
        1 => vec((prop_oneof![top, Just("insightDetails")], prop_oneof![leaf, Just(elsewhere)]), 0..6),
    ];
    (members, inner).prop_map(|(members, inner)| {
        let mut record =
            json!({"eventVersion": "1.11", "requestParameters": inner, "userIdentity": {"type": "IAMUser", "userName": "Run"}});
        for (name, value) in members {
            record[name] = value;
        }
        record
    })
}

/// The record with every letter of its texts and names spelled as an escape: it says the same.
fn escaped(text: &str) -> String {
    let (mut out, mut is_inside, mut chars) = (String::new(), false, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => is_inside = !is_inside,
            '\\' => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            c if is_inside && c.is_ascii_alphabetic() => {
                write!(out, "\\u{:04x}", c as u32).unwrap();
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

fn lists() -> Lists {
    [("people".to_owned(), vec!["Run".to_owned(), "10.0.0.0/8".to_owned()])].into()
}

fn matches(filters: &[&Filter], text: &str) -> Vec<bool> {
    let (mut scratch, mut said) = (Scratch::default(), Vec::new());
    each_event(text, |event| said.extend(filters.iter().map(|it| it.matches(event, &mut scratch))));
    assert_eq!(said.len(), filters.len(), "{text}");
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_printed_reads_back(expr in expr()) {
        let printed = expr.to_string();
        let again = parse(&printed);
        prop_assert!(again.is_ok(), "{printed}\n{}", again.unwrap_err());
        prop_assert_eq!(again.unwrap().to_string(), printed);
    }

    #[test]
    fn not_is_the_complement_and_no_spelling_evades(expr in expr(), record in record()) {
        let negated = Expr::Not(Box::new(expr.clone()));
        let (source, negated) = (expr.to_string(), negated.to_string());
        // What can never be true is refused; so is its complement.
        let (Ok(filter), Ok(negated)) = (Filter::new(&source, &lists()), Filter::new(&negated, &lists())) else { return Ok(()) };
        let text = record.to_string();
        let found = matches(&[&filter, &negated], &text);
        prop_assert!(found[0] != found[1], "{} on {}", source, text);
        // `raw` by itself is the text as it is spelled.
        if !source.contains("raw") {
            prop_assert_eq!(matches(&[&filter, &negated], &escaped(&text)), found, "{} on {}", source, escaped(&text));
        }
    }

    #[test]
    fn rules_at_once_answer_as_each_filter_by_itself(exprs in vec(expr(), 1..8), records in vec(record(), 1..6)) {
        let folder = tempfile::tempdir_in(crate::support::root().join("target/test-data")).unwrap();
        let mut filters = Vec::new();
        for expr in exprs {
            let source = expr.to_string();
            let Ok(filter) = Filter::new(&source, &lists()) else { continue };
            let rule = json!({"id": format!("r{}", filters.len()), "title": "t", "severity": 2, "type": "CloudTrail", "description": "d", "filter": source});
            std::fs::write(folder.path().join(format!("r{:02}.yaml", filters.len())), rule.to_string()).unwrap();
            filters.push(filter);
        }
        let loaded = load(&[Source::Path(folder.path().to_owned())], &lists());
        prop_assert_eq!(loaded.problems, []);
        let set = RuleSet::new(loaded.rules);
        let (mut scratch, mut found) = (Scratch::default(), Vec::new());
        // Twice: what was learnt from the records is asked about them, too.
        for record in records.iter().chain(&records) {
            let text = record.to_string();
            let expected = matches(&filters.iter().collect::<Vec<_>>(), &text);
            each_event(&text, |event| set.matches(event, &mut scratch, &mut found));
            let mut answers = vec![false; filters.len()];
            for it in &found {
                let n: usize = set.rules[it.rule].id[1..].parse().unwrap();
                answers[n] = true;
            }
            prop_assert_eq!(answers, expected, "{}", text);
        }
    }
}

#[test]
fn an_escaped_call_is_found_by_every_kind_of_rule() {
    let text = r#"{"eventVersion":"1.11","\u0065ventName":"\u0052unInstances","requestParameters":{"a":"\u0052un"}}"#;
    for source in ["eventName = \"RunInstances\"", "action like \"unInst\"", "eventName matches \"^Run\"", "requestParameters.a = \"Run\""]
    {
        assert_eq!(matches(&[&Filter::new(source, &lists()).unwrap()], text), [true], "{source}");
    }
}

#[test]
fn one_array_at_two_depths_is_two_values() {
    let folder = crate::support::TestApp::new();
    folder.file("r.yaml", "id: r\ntitle: t\nseverity: 2\ntype: CloudTrail\ndescription: d\nfilter: 'requestParameters.a.b = \"Run\"'\n");
    let loaded = load(&[Source::Path(folder.path("r.yaml"))], &lists());
    let set = RuleSet::new(loaded.rules);
    let record = |parameters: &str| format!(r#"{{"eventVersion":"1.11","eventName":"A","requestParameters":{parameters}}}"#);
    // The second matches, the first does not, whichever comes first.
    let [other, wanted] = [r#"{"a":["Run"]}"#, r#"{"a":{"b":["Run"]}}"#].map(record);
    for (texts, expected) in [([&other, &wanted], [false, true]), ([&wanted, &other], [true, false])] {
        let (mut scratch, mut found, mut said) = (Scratch::default(), Vec::new(), Vec::new());
        for text in texts {
            each_event(text, |event| {
                set.matches(event, &mut scratch, &mut found);
                said.push(!found.is_empty());
            });
        }
        assert_eq!(said, expected);
    }
}
