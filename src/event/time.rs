//! Times as `CloudTrail` and Kubernetes spell them, to milliseconds since 1970 and back.

/// Milliseconds in an hour: ids and folders go by it.
pub const HOUR_MS: i64 = 3_600_000;

/// Reads `2026-01-02T03:04:05Z`, with a space for the `T`, with fractions, with an offset or none (then UTC),
/// and the basic form `20260102T030405Z`.
pub fn parse_ms(text: &str) -> Option<i64> {
    let t = text.as_bytes();
    if t.len() >= 15 && t[8] == b'T' && t[..8].iter().all(u8::is_ascii_digit) {
        let clock = civil(number(t, 0, 4)?, number(t, 4, 6)?, number(t, 6, 8)?, number(t, 9, 11)?, number(t, 11, 13)?, number(t, 13, 15)?)?;
        return zone(&t[15..]).map(|offset| clock - offset);
    }
    if t.len() < 19 || t[4] != b'-' || t[7] != b'-' || !matches!(t[10], b'T' | b't' | b' ') || t[13] != b':' || t[16] != b':' {
        return None;
    }
    let clock = civil(number(t, 0, 4)?, number(t, 5, 7)?, number(t, 8, 10)?, number(t, 11, 13)?, number(t, 14, 16)?, number(t, 17, 19)?)?;
    let mut rest = &t[19..];
    let mut millis = 0;
    if let [b'.', fraction @ ..] = rest {
        let n = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if n == 0 {
            return None;
        }
        for digit in fraction[..n].iter().chain(b"00").take(3) {
            millis = millis * 10 + i64::from(digit - b'0');
        }
        rest = &fraction[n..];
    }
    zone(rest).map(|offset| clock + millis - offset)
}

fn number(t: &[u8], from: usize, to: usize) -> Option<i64> {
    t[from..to].iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// The offset from UTC in milliseconds.
fn zone(rest: &[u8]) -> Option<i64> {
    match rest {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let minutes = number(&[*h1, *h2], 0, 2)? * 60 + number(&[*m1, *m2], 0, 2)?;
            Some(if *sign == b'-' { -minutes } else { minutes } * 60_000)
        }
        _ => None,
    }
}

fn civil(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 by the civil calendar, years counted from March.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = y.rem_euclid(400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second.min(59) * 1000)
}

/// Writes `2026-01-02T03:04:05.678Z`.
pub fn format_ms(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |it| format!("{it:.3}"))
}

/// Writes the hour as `2026-01-02T03`, as folders of the store are named.
pub fn format_hour(hour: i64) -> String {
    let text = format_ms(hour * HOUR_MS);
    text.get(..13).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-24T12:40:17Z", Some(1_795_524_017_000)),
            ("2026-11-24T12:40:17.123456Z", Some(1_795_524_017_123)),
            ("2026-11-24T12:40:17.5Z", Some(1_795_524_017_500)),
            ("2026-11-24 12:40:17", Some(1_795_524_017_000)),
            ("2026-11-24T13:40:17+01:00", Some(1_795_524_017_000)),
            ("20261124T124017Z", Some(1_795_524_017_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-24T12:40:17.Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn agrees_with_a_calendar_library() {
        for days in (0..40_000).step_by(13) {
            let ms = i64::from(days) * 86_400_000 + 12_345_000;
            assert_eq!(parse_ms(&format_ms(ms)), Some(ms));
        }
    }
}
