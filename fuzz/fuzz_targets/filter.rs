//! Any text parses or is refused; what parses prints to something that parses to the same.
#![no_main]

use planewatch::filter::{Filter, Lists, parse};

fn without_places(expr: &planewatch::filter::Expr) -> String {
    expr.to_string()
}

libfuzzer_sys::fuzz_target!(|data: &str| {
    if let Ok(expr) = parse(data) {
        let printed = without_places(&expr);
        let again = parse(&printed).expect("the printed form parses");
        assert_eq!(printed, without_places(&again));
        let _ = Filter::compile(&expr, data, &Lists::new());
    }
});
