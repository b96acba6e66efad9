//! A point in time as people write it: milliseconds since 1970, a date, how long ago.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// Now, in the time zone of the system.
pub fn now() -> Zoned {
    Zoned::now()
}

/// Milliseconds since 1970 of `text`: a number of them; a date or a date with a time, in the zone
/// of `now` unless it names an offset; or `-90s`, `-2h30m`, `-7d` before `now`.
///
/// # Errors
/// What is none of these, lies before 1970 or, where it is relative, behind `now`.
pub fn parse(text: &str, now: Zoned) -> Result<i64, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| "so many milliseconds are no time".to_owned());
    }
    if let Some(span) = text.strip_prefix('-') {
        return ago(span, now);
    }
    let zone = now.time_zone().clone();
    let found = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp()))
        .or_else(|| {
            // Without an offset it is local time. What jiff reads as a date alone has no time.
            let time = text.parse::<DateTime>().ok()?;
            Some(time.to_zoned(zone.clone()).ok()?.timestamp())
        })
        .or_else(|| Some(text.parse::<Date>().ok()?.to_zoned(zone.clone()).ok()?.timestamp()));
    match found {
        Some(time) if time >= Timestamp::UNIX_EPOCH => Ok(time.as_millisecond()),
        Some(_) => Err("a time is not before 1970".into()),
        None => Err("a time is milliseconds since 1970, 2026-01-31, 2026-01-31T12:00, \
                     2026-01-31T12:00:00Z, or how long ago: -90s, -2h30m, -7d"
            .into()),
    }
}

/// Milliseconds since 1970 of `span` before `now`: `90s`, `2h30m`, `7d`, `PT1H30M`.
///
/// # Errors
/// What is no duration, is negative, or reaches before 1970.
pub fn ago(span: &str, now: Zoned) -> Result<i64, String> {
    let wrong = || "a duration is written 90s, 2h30m, 7d or PT1H30M".to_owned();
    if span.starts_with(['+', '-']) {
        return Err(wrong());
    }
    let parsed = span.parse::<Span>().map_err(|_| wrong())?;
    let time = now.checked_sub(parsed).map_err(|_| wrong())?.timestamp();
    if now.timestamp().duration_since(time) < SignedDuration::ZERO {
        return Err("a duration is not negative".into());
    }
    match time >= Timestamp::UNIX_EPOCH {
        true => Ok(time.as_millisecond()),
        false => Err("a time is not before 1970".into()),
    }
}

/// A time in milliseconds since 1970, in UTC.
pub fn shown(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-07-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_time_is_a_number_a_date_or_how_long_ago() {
        let noon_ms = noon().timestamp().as_millisecond();
        let hour = 3_600_000;
        for (text, expected) in [
            ("1700000000000", 1_700_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
            ("2026-07-01T12:00:00", noon_ms),
            ("2026-07-01 12:00", noon_ms),
            ("2026-07-01", noon_ms - 12 * hour),
            ("-1h", noon_ms - hour),
            ("-1h30m", noon_ms - hour - hour / 2),
            ("-90s", noon_ms - 90_000),
            ("-500ms", noon_ms - 500),
            ("-7d", noon_ms - 7 * 24 * hour),
            ("-PT2H", noon_ms - 2 * hour),
        ] {
            assert_eq!(parse(text, noon()), Ok(expected), "{text}");
        }
        for bad in ["", "x", "yesterday", "-", "-x", "--1h", "-+1h", "1h", "1969-12-31", "-99y"] {
            assert!(parse(bad, noon()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_day_is_as_long_as_the_calendar_says() {
        let after = "2026-03-29T12:00:00+02:00[Europe/Berlin]".parse::<Zoned>().unwrap();
        let before = "2026-03-28T12:00:00+01:00[Europe/Berlin]".parse::<Zoned>().unwrap();
        assert_eq!(parse("-1d", after), Ok(before.timestamp().as_millisecond()));
    }
}
